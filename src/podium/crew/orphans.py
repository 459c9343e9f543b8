"""What tasks start and leave behind, where this program is the first process of a container: it inherits orphans.

Everywhere else the system's first process takes leave of them. Here nobody would, and the container's table of
processes would fill with zombies. Exit statuses that somebody waits for are not touched: only members of the process
groups that crew children lead are reaped, never such a child itself, and never a child of the program's own, which is
in none of these groups.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from podium.kernel import adopt_orphans

#: Process groups that crew children lead, or have led, and that may still have members.
_GROUPS: Final[set[int]] = set()


def expect(leader: int) -> None:
    """Mind the process group of a crew child."""
    if os.getpid() == 1:
        _GROUPS.add(leader)


def reap() -> int:
    """Take leave of all orphans that have ended; return their number."""
    return sum(_reap_group(leader) for leader in list(_GROUPS))


def _reap_group(leader: int) -> int:
    reaped = 0
    while True:
        try:
            # A look only: if it is the leader that has ended, its exit status is for whoever waits for it.
            ended = os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no child of ours is in this group, now; the leader may be the fork server's
            with contextlib.suppress(PermissionError):
                try:
                    os.killpg(leader, 0)
                except ProcessLookupError:
                    _GROUPS.discard(leader)
            return reaped
        if ended is None or ended.si_pid == leader:
            return reaped
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, os.WNOHANG)
            reaped += 1


def adopt() -> None:
    """Let this process, the fork server, inherit the orphans of its children instead, where the system can (Linux).

    It waits for whatever ends below it, so it can also take leave of those that have left their process group.
    """
    if os.getppid() == 1:
        adopt_orphans()
