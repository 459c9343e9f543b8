"""An embedded server for the demo, in a process of its own: it does not share the interpreter lock with the engine."""

from __future__ import annotations

import re
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from podium.errors import StartError

#: Seconds within which the server must be ready, and must have ended.
_PATIENCE: Final = 20.0
_URL = re.compile(r"https?://\S+/api")


@contextmanager
def embedded_server() -> Iterator[str]:
    """Run an embedded server on a free port and yield its URL; it ends with the block, or with this process.

    Raises StartError if it does not come up.
    """
    command = [sys.executable, "-m", "podium", "server", "--port", "0", "--until-eof"]
    # A process group of its own: Ctrl-C is for the demo alone, which still needs the server to give tasks back.
    with subprocess.Popen(  # noqa: S603 - podium itself
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _announced_url(process.stdout)
        finally:
            process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _announced_url(output: IO[str]) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        line = output.readline() if selector.select(_PATIENCE) else "nothing"
    found = _URL.search(line)
    if found is None:
        raise StartError(f"the embedded server did not start; it said: {line.strip() or 'nothing'}")
    return found[0]
