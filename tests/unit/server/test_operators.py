"""What the operators compute."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from podium.server.domains import resolve_domain
from podium.server.operators import termination_output, wait_end


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2 seconds", 2),
        ("2s", 2),
        ("1 second", 1),
        ("1h30m", 5400),
        ("1 hrs 5 mins", 3900),
        ("3 days 2 hours", 266_400),
        ("1d2h3m4s", 93_784),
        ("2 Minutes", 120),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert wait_end({"duration": text}, 1000) == 1000 + seconds * 1000


@pytest.mark.parametrize("text", ["2", "PT2S", "500ms", "abc", "1 week", "-1 s", "1.5 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="Not valid duration"):
        wait_end({"duration": text}, 0)


def test_moments() -> None:
    noon = datetime(2030, 1, 2, 12, 30, tzinfo=UTC)
    assert wait_end({"until": "2030-01-02 12:30 UTC"}, 0) == noon.timestamp() * 1000
    local = datetime(2030, 1, 2).astimezone()
    assert wait_end({"until": "2030-01-02"}, 0) == local.timestamp() * 1000
    for wrong in ("tomorrow", "2030-13-01", "2030-01-02 12:30 NOWHERE/X"):
        with pytest.raises(ValueError, match="Not a valid time"):
            wait_end({"until": wrong}, 0)


def test_neither_means_for_ever_and_both_are_refused() -> None:
    assert wait_end({}, 0) is None
    with pytest.raises(ValueError, match="Both"):
        wait_end({"duration": "1s", "until": "2030-01-02"}, 0)


def test_termination_output() -> None:
    assert termination_output({}) == {}
    assert termination_output({"workflowOutput": {"a": 1}}) == {"a": 1}
    assert termination_output({"workflowOutput": [1]}) == {"output": [1]}


@pytest.mark.parametrize(
    ("listed", "polled", "domain"),
    [
        ("A,B", "", "B"),
        ("A,B", "A", "A"),
        ("B,A", "A", "A"),
        (" A , NO_DOMAIN", "A", "A"),
        ("A,NO_DOMAIN", "", None),
        ("NO_DOMAIN", "", None),
        ("", "", None),
    ],
)
def test_domains(listed: str, polled: str, domain: str | None) -> None:
    for key in ("t", "*"):
        assert resolve_domain({key: listed}, "t", lambda _type, name: name == polled) == domain


def test_own_type_beats_the_star() -> None:
    assert resolve_domain({"*": "A", "t": "B"}, "t", lambda *_: False) == "B"
