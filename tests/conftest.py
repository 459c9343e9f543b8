"""Every test starts without the settings of the machine and the shell that it runs in."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_PREFIXES = ("CONDUCTOR_", "CONDUCTOR.", "WORKER_CANONICAL_METRICS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


# No test asserts that something was fast, and the machine may be busy.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_configure() -> None:
    # A shell that starts the tests in the background ignores SIGINT for them, and every program under test inherits it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.upper().startswith(_PREFIXES) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    # Results that wait are for the test that made them, and nothing is written to the home of whoever runs the tests.
    monkeypatch.setenv("XDG_STATE_HOME", str(_state_of(tmp_path_factory)))


def _state_of(factory: pytest.TempPathFactory) -> Path:
    global _states
    _states += 1
    return factory.getbasetemp() / f"state-{_states}"


_states = 0
