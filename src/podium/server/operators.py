"""The task types that the server itself runs, and what they compute. No engine state in here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from podium.server.expressions import java_text

#: Operators that this server runs. Types in neither set are worker tasks.
SYSTEM_TYPES = frozenset({"SWITCH", "FORK_JOIN", "JOIN", "SET_VARIABLE", "TERMINATE", "NOOP", "WAIT", "HUMAN"})

#: Operators of Conductor that this server refuses when a definition is registered.
REFUSED_TYPES = frozenset(
    {
        "CALL_MCP_TOOL",
        "DECISION",
        "DO_WHILE",
        "DYNAMIC",
        "EVENT",
        "EXCLUSIVE_JOIN",
        "FORK",
        "FORK_JOIN_DYNAMIC",
        "GENERATE_AUDIO",
        "GENERATE_IMAGE",
        "GENERATE_PDF",
        "GENERATE_VIDEO",
        "HTTP",
        "INLINE",
        "JSON_JQ_TRANSFORM",
        "KAFKA_PUBLISH",
        "LAMBDA",
        "LIST_MCP_TOOLS",
        "LLM_CHAT_COMPLETE",
        "LLM_GENERATE_EMBEDDINGS",
        "LLM_GET_EMBEDDINGS",
        "LLM_INDEX_TEXT",
        "LLM_SEARCH_EMBEDDINGS",
        "LLM_SEARCH_INDEX",
        "LLM_STORE_EMBEDDINGS",
        "LLM_TEXT_COMPLETE",
        "PARSE_DOCUMENT",
        "PULL_WORKFLOW_MESSAGES",
        "START_WORKFLOW",
        "SUB_WORKFLOW",
    }
)

#: Seconds that an open-ended WAIT shows as its callback: "never".
FOREVER = 2_147_483_647

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"\s*(?:(\d+)\s*(?:days?|d)(?![a-z])\s*)?(?:(\d+)\s*(?:hours?|hrs?|h)(?![a-z])\s*)?"
    r"(?:(\d+)\s*(?:minutes?|mins?|m)(?![a-z])\s*)?(?:(\d+)\s*(?:seconds?|secs?|s)(?![a-z])\s*)?",
    re.IGNORECASE,
)
_UNTIL = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ ](\d\d:\d\d)(?:[ ](\S+))?)?")


def switch_case(input_data: dict[str, Any], input_key: str) -> str:
    """Return the case that a value-param SWITCH selects: the text of one of its inputs."""
    return java_text(input_data.get(input_key))


def wait_end(input_data: dict[str, Any], now: int) -> int | None:
    """Return when a WAIT ends (epoch ms), or None if only an update ends it. Raises ValueError."""
    duration, until = input_data.get("duration"), input_data.get("until")
    if duration and until:
        raise ValueError("Both 'duration' and 'until' specified. Please provide only one input")
    if duration:
        return now + _seconds(java_text(duration)) * 1000
    if until:
        return _moment(java_text(until))
    return None


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"Not valid duration: {text}")
    return sum(int(count) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True) if count)


def _moment(text: str) -> int:
    match = _UNTIL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Not a valid time: {text}")
    day, clock, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
        moment = moment.replace(tzinfo=ZoneInfo(zone)) if zone else moment.astimezone()
    except (ValueError, ZoneInfoNotFoundError):
        raise ValueError(f"Not a valid time: {text}") from None
    return int(moment.astimezone(UTC).timestamp() * 1000)


def termination_output(input_data: dict[str, Any]) -> dict[str, Any]:
    """Return the output that a TERMINATE gives the workflow; a value that is no object becomes ``output``."""
    output = input_data.get("workflowOutput")
    if output is None:
        return {}
    return output if isinstance(output, dict) else {"output": output}
