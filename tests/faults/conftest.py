"""Faults on purpose: scripted servers, broken networks, signals, full disks. Real processes, no privileges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_server import FakeServer
from stop_stage import Stage


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def stage(server: FakeServer, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(server, tmp_path)
    yield stage
    stage.close()
