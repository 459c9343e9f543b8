"""How the tasks in an engine's hands end: each is counted once, under one of these words."""

from __future__ import annotations

import msgspec

from podium.bundle import Bundle


class Endings(Bundle):
    """Counts since the engine's start; written on its loop."""

    #: The server has the result, or has said that nobody waits for it (any more): the task was cancelled, or is gone.
    finished: int = 0
    #: Given back to the server, which hands them out again.
    handed_back: int = 0
    #: The result is on disk, and is delivered at the next start.
    spooled: int = 0
    #: The server knows nothing of how they ended; it waits for their response timeout.
    lost: int = 0
    #: Their code could not be stopped.
    abandoned: int = 0

    @property
    def total(self) -> int:
        """How many tasks have ended."""
        return self.finished + self.handed_back + self.spooled + self.lost + self.abandoned

    def copy(self) -> Endings:
        """Return the counts as they are now."""
        return msgspec.structs.replace(self)

    def since(self, earlier: Endings) -> Endings:
        """Return what has been added since an earlier copy."""
        return Endings(
            self.finished - earlier.finished,
            self.handed_back - earlier.handed_back,
            self.spooled - earlier.spooled,
            self.lost - earlier.lost,
            self.abandoned - earlier.abandoned,
        )
