"""Real children and real signals, against the embedded server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from podium.testing import local_server
from rig import Rig


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    with local_server() as server:
        yield server.url


@pytest.fixture
def rig(server_url: str) -> Rig:
    return Rig(server_url)
