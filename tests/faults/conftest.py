"""Faults on purpose: scripted servers, broken networks, signals, full disks. Real processes, no privileges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server
