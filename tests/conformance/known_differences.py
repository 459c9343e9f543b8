"""Where podium's embedded server differs from the real one on purpose.

A test of such a behaviour carries ``@differs("key")``: it must pass on the embedded server, and on the real one it is
expected to fail. ``docs/conformance.md`` lists the same table for readers; a test keeps the two together.
"""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Difference:
    """What the real server does and what the embedded one does instead."""

    real: str
    embedded: str
    #: The real server shows the behaviour each time; if not, a pass there proves nothing.
    always: bool = True
    #: Run the case on the real server; off where it would take minutes to show anything.
    run: bool = True


KNOWN_DIFFERENCES: dict[str, Difference] = {
    "fork-retry-race": Difference(
        real="A fork branch that fails with retries left is visible as FAILED for a moment; if the JOIN is evaluated "
        "then, the workflow fails although a retry was scheduled.",
        embedded="A failed attempt and its successor become visible together: the JOIN waits for the retry.",
        always=False,
    ),
    "late-timeouts": Difference(
        real="Every timeout of a workflow after its first one is noticed 60-120 s late, unless something else "
        "evaluates the workflow.",
        embedded="Timeouts are noticed within a second.",
        run=False,
    ),
    "long-poll-of-many": Difference(
        real="A long poll for more than one task answers only when it has that many or its time is over.",
        embedded="It answers as soon as there is a task, with all that are there.",
    ),
    "optional-at-the-end": Difference(
        real="An optional task that fails as the last one of its workflow keeps its status FAILED.",
        embedded="It becomes COMPLETED_WITH_ERRORS, as it does elsewhere in a workflow.",
    ),
    "restart-keeps-failed-names": Difference(
        real="A restarted workflow still lists in failedReferenceTaskNames what failed before the restart.",
        embedded="A restart begins with empty lists.",
    ),
    "negative-count": Difference(
        real="A batch poll with a negative count hands out every waiting task (with the SQLite store).",
        embedded="A count of zero or less hands out nothing.",
    ),
}


def differs(key: str) -> pytest.MarkDecorator:
    """Mark a test as one of the known differences."""
    assert key in KNOWN_DIFFERENCES, key
    return pytest.mark.differs(key)
