"""Every test starts without the settings of the machine and the shell that it runs in."""

from __future__ import annotations

import os
import signal

import pytest

_PREFIXES = ("CONDUCTOR_", "CONDUCTOR.", "WORKER_CANONICAL_METRICS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def pytest_configure() -> None:
    # A shell that starts the tests in the background ignores SIGINT for them, and every program under test inherits it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(_PREFIXES) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
