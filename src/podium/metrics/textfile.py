"""The metrics file: replaced as a whole, so that whoever reads it never sees half of it."""

from __future__ import annotations

import contextlib
import glob
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

#: Readable by all: a collector of metrics runs as a user of its own, and there is no secret in it.
_MODE: Final = 0o644
#: A temporary file of this age, in seconds, is what a killed program has left behind.
_ABANDONED: Final = 60.0
#: Rendering may take one part in so many of a core: many series with a short interval are written less often.
_SHARE: Final = 20


class TextFile:
    """Writes what ``render`` returns into a file, from time to time, if it has changed."""

    def __init__(self, path: Path, interval: float, render: Callable[[], bytes]) -> None:
        self.path = path
        self._interval = interval
        self._render = render
        self._written: bytes | None = None
        self._failing = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write the file once, and then again and again; raises OSError if that cannot work."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self.write()
        self._thread = threading.Thread(target=self._run, name="podium-metrics-file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write the last values, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._attempt()

    def write(self) -> bool:
        """Replace the file if its text would differ, and return whether it did; raises OSError."""
        text = self._render()
        if text == self._written and self.path.exists():
            return False
        self._written = None
        # The folder may have been removed meanwhile; the temporary file must be on the same file system.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp", delete=False
        ) as temporary:
            try:
                temporary.write(text)
                temporary.close()
                Path(temporary.name).chmod(_MODE)
                Path(temporary.name).replace(self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(temporary.name).unlink()
                raise
        self._written = text
        return True

    def _run(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            begun = time.thread_time()
            self._attempt()
            pause = max(self._interval, _SHARE * (time.thread_time() - begun))

    def _attempt(self) -> None:
        try:
            self.write()
        except Exception as error:  # a full disk, or a metric of the user's own that cannot be rendered
            if not self._failing:
                self._failing = True
                logger.warning(
                    "metrics: %s cannot be written, and is tried again every %g s: %s: %s",
                    self.path, self._interval, type(error).__name__, error,
                )  # fmt: skip
            return
        if self._failing:
            self._failing = False
            logger.info("metrics: %s is written again", self.path)

    def _sweep(self) -> None:
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()
