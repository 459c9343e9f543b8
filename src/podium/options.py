"""The options of a worker: the one list that the decorators, ``Worker`` and the documentation share."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec

from podium.bundle import Bundle
from podium.errors import DeclarationError
from podium.models import TaskDef

Documented = TypeVar("Documented", bound=Callable[..., Any])
Isolation = Literal["process", "thread"]
OnCancel = Literal["tell", "kill"]

#: The largest number of any option: what a server can read; in ms, 24 days.
_LARGEST: Final = 2**31 - 1
#: The server refuses a longer long poll.
MAX_POLL_TIMEOUT_MS = 5000


class Kind(Bundle, frozen=True):
    """The values that an option takes.

    ``refusal`` returns what is expected instead of a value, None for a value that is allowed. ``parse`` reads a value
    from the text of an environment variable, and raises ValueError; it is None for what no text can say.
    """

    refusal: Callable[[Any], str | None]
    parse: Callable[[str], Any] | None


_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read_flag(text: str) -> bool:
    """Read a boolean of the environment; raises ValueError with what is expected."""
    try:
        return _FLAGS[text.strip().lower()]
    except KeyError:
        raise ValueError(f"one of {', '.join(_FLAGS)}") from None


def _number(minimum: float, maximum: float = _LARGEST, *, whole: bool = True) -> Kind:
    limits = f"{'a whole number' if whole else 'a number'} from {minimum} to {maximum}"

    def refusal(value: Any) -> str | None:
        types = (int,) if whole else (int, float)
        good = isinstance(value, types) and not isinstance(value, bool) and minimum <= value <= maximum
        return None if good else limits

    def parse(text: str) -> float:
        try:
            return int(text) if whole or text.strip().isdecimal() else float(text)
        except ValueError:
            raise ValueError(limits) from None

    return Kind(refusal, parse)


def _one_of(*allowed: str) -> Kind:
    words = " or ".join(repr(word) for word in allowed)
    return Kind(lambda value: None if value in allowed else words, lambda text: text.strip().lower())


def _refusal_of_text(value: Any) -> str | None:
    good = isinstance(value, str) and value and value.isprintable()
    return None if good else "a non-empty text without control characters"


def _refusal_of_task_def(value: Any) -> str | None:
    if not isinstance(value, TaskDef):
        return "a TaskDef"
    try:
        msgspec.convert(value.to_dict(), TaskDef)  # a struct takes any value, the server does not
    except (TypeError, RecursionError, msgspec.ValidationError) as error:
        return f"a TaskDef with values of its fields' types: {error}"
    whole, silence = value.timeout_seconds or 0, value.response_timeout_seconds or 0
    if 0 < whole < silence:
        return f"response_timeout_seconds ({silence}) of at most timeout_seconds ({whole}): the server wants it so"
    return None


_FLAG = Kind(lambda value: None if isinstance(value, bool) else "True or False", read_flag)
#: An empty variable takes back what the code says.
_TEXT = Kind(_refusal_of_text, lambda text: text or None)
_TASK_DEF = Kind(_refusal_of_task_def, None)


def _option(default: Any, kind: Kind, doc: str) -> Any:
    return field(default=default, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How one worker polls, runs and registers.

    Raises DeclarationError for a value out of range. An option whose default is None may be given as None.
    """

    poll_interval: float = _option(
        100, _number(0, whole=False), "pause between two polls of an empty queue, in ms; up to 16 more"
    )
    domain: str | None = _option(None, _TEXT, "task domain to poll; None polls the queue without a domain")
    worker_id: str | None = _option(None, _TEXT, "id that the server shows for this worker; None is the host name")
    thread_count: int = _option(1, _number(1), "tasks that run at the same time in one process, for def and async def")
    register_task_def: bool = _option(False, _FLAG, "register the task definition at start")
    poll_timeout: int = _option(
        100, _number(0, MAX_POLL_TIMEOUT_MS), "how long the server may hold a poll of an empty queue, in ms"
    )
    lease_extend_enabled: bool = _option(
        False, _FLAG, "keep a running task's lease by heartbeats, so that it may outlast its response timeout"
    )
    max_lease_seconds: float | None = _option(
        None, _number(1, whole=False), "how long a lease is kept at most while the function runs; None is any time"
    )
    timeout_seconds: float | None = _option(
        None,
        _number(0, whole=False),
        "how long the function may run before it is ended and its task fails; 0 is any time, None is timeoutSeconds of "
        "the task definition, unless its timeoutPolicy is ALERT_ONLY",
    )
    on_cancel: OnCancel = _option(
        "tell",
        _one_of("tell", "kill"),
        "what happens to the function when its task is cancelled: 'tell' asks it to end, 'kill' also kills its process "
        "if it has not ended a second later",
    )
    task_def: TaskDef | None = _option(None, _TASK_DEF, "template for the registered task definition")
    overwrite_task_def: bool = _option(True, _FLAG, "update an existing definition with what task_def states")
    strict_schema: bool = _option(False, _FLAG, "refuse input fields that the function has no parameter for")
    register_schema: bool | None = _option(
        None, _FLAG, "register JSON schemas of input and output at start; None is the Configuration's register_schema"
    )
    paused: bool = _option(False, _FLAG, "start without polling, until set_paused(name, False)")
    isolation: Isolation | None = _option(
        None, _one_of("process", "thread"), "where the function runs; None is the TaskHandler's isolation"
    )
    group: str | None = _option(None, _TEXT, "workers of the same group share their child processes")
    processes: int | None = _option(None, _number(1), "number of child processes; None is the TaskHandler's")
    max_crashes: int = _option(
        3, _number(0), "a task in whose hands so many child processes have died is not retried any more; 0 is no limit"
    )
    max_tasks: int | None = _option(
        None, _number(1), "a child process is replaced after so many tasks, without a gap; None is never"
    )
    max_rss_mb: int | None = _option(
        None, _number(1), "a child process that has so many MB of memory resident is replaced, without a gap"
    )
    max_age_seconds: float | None = _option(
        None, _number(1, whole=False), "a child process is replaced after so many seconds, without a gap; None is never"
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value = getattr(self, option.name)
            refusal = _refusal(option, value)
            if refusal is not None:
                raise DeclarationError(f"{option.name}={value!r}: expected {refusal}")


OPTIONS: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(WorkerOptions)
OPTION_NAMES: tuple[str, ...] = tuple(option.name for option in OPTIONS)


def _refusal(option: dataclasses.Field[Any], value: Any) -> str | None:
    if value is None and option.default is None:
        return None
    refusal: str | None = option.metadata["kind"].refusal(value)
    return refusal


def read_option(name: str, text: str) -> Any:
    """Return the value of an option that a text stands for; raises ValueError with what is expected instead."""
    option = OPTIONS[OPTION_NAMES.index(name)]
    value = option.metadata["kind"].parse(text)
    refusal = _refusal(option, value)
    if refusal is not None:
        raise ValueError(refusal)
    return value


_DESCRIBED = "\n".join(
    f"- ``{option.name}`` (default {option.default!r}): {option.metadata['doc']}" for option in OPTIONS
)


def with_options(documented: Documented) -> Documented:
    """Add the list of the options to a docstring; decorates what takes them."""
    documented.__doc__ = f"{inspect.cleandoc(documented.__doc__ or '')}\n\nOptions:\n\n{_DESCRIBED}\n"
    return documented


with_options(WorkerOptions)

#: Other spellings of the same options, as users of the other SDKs know them.
ALIASES: Mapping[str, str] = {
    "poll_interval_millis": "poll_interval",
    "polling_interval": "poll_interval",
    "concurrency": "thread_count",
    "task_def_template": "task_def",
}

#: What users look for here and will not find; each with where it is.
_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "event_listeners", "grace_seconds", "handle_signals", "import_modules", "kill_stopped",
            "monitor_interval_seconds", "monitor_processes", "restart_backoff_max_seconds", "restart_backoff_seconds",
            "restart_max_attempts", "restart_on_failure", "restart_stuck", "start_method", "stuck_after_seconds",
            "update_retry_delays",
        ),
        "it is an option of TaskHandler, for all of its workers",
    ),
}  # fmt: skip

#: Every name by which an environment variable may set an option, and the option.
ENVIRONMENT_NAMES: Mapping[str, str] = {
    name: known
    for name, known in [*((name, name) for name in OPTION_NAMES), *ALIASES.items()]
    if OPTIONS[OPTION_NAMES.index(known)].metadata["kind"].parse is not None
}


def _hint(unknown: str) -> str:
    if unknown in _ELSEWHERE:
        return _ELSEWHERE[unknown]
    import difflib  # for whoever mistypes

    near = difflib.get_close_matches(unknown, [*OPTION_NAMES, *ALIASES], n=1)
    return f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(OPTION_NAMES)}"


def make_options(owner: str, given: Mapping[str, Any]) -> WorkerOptions:
    """Return the options of ``owner``, a text for messages.

    Raises DeclarationError for an unknown option (with the nearest known name, or where it belongs) or a value out of
    range.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        known = ALIASES.get(name, name)
        if known not in OPTION_NAMES:
            raise DeclarationError(f"{owner}: unknown option {name!r}; {_hint(name)}")
        if known in values:
            raise DeclarationError(f"{owner}: {known} is given twice, once as {name!r}")
        values[known] = value
    try:
        return WorkerOptions(**values)
    except DeclarationError as error:
        raise DeclarationError(f"{owner}: {error}") from None
