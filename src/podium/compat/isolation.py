"""Where functions run, as conductor-python's environment variable says it."""

from __future__ import annotations

import logging
import os
from typing import Final, Literal

logger = logging.getLogger(__name__)

WORKER_ISOLATION_ENV: Final = "CONDUCTOR_WORKER_ISOLATION"
ISOLATION_PROCESS: Final = "process"
ISOLATION_THREAD: Final = "thread"


def isolation_mode() -> Literal["process", "thread"]:
    """Return what CONDUCTOR_WORKER_ISOLATION says, "process" without it."""
    text = os.environ.get(WORKER_ISOLATION_ENV, "").strip().lower()
    if text == ISOLATION_THREAD:
        return ISOLATION_THREAD
    if text not in {"", ISOLATION_PROCESS}:
        logger.warning("%s=%r: expected 'process' or 'thread'; 'process' is used", WORKER_ISOLATION_ENV, text)
    return ISOLATION_PROCESS
