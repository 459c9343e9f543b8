"""What a run of the demo came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.demo.drive import Drive
    from podium.demo.tally import Numbers


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run came to. ``problems`` has a line for each workflow that did not complete."""

    drive: Drive
    heard: Numbers
    recorded: Numbers
    differences: list[str]
    problems: list[str]
