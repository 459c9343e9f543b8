"""The look at the queues, against a server that has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import samples
from podium import selfcheck
from podium.testing import local_server
from rig import Rig, until


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with local_server() as server:
        yield Rig(server.url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "INTERVAL", 0.5)
    monkeypatch.setattr(selfcheck, "SLACK", 0.1)


def test_work_in_a_domain_where_nobody_polls_is_told_and_a_retry_that_waits_is_not(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.define(samples.returns_none, samples.raises_value_error, retry_count=1, retry_delay_seconds=600)
    workers = [rig.worker(samples.returns_none), rig.worker(samples.raises_value_error)]
    with rig.running(*workers, isolation="thread"):
        rig.start(samples.raises_value_error)
        misled = rig.start(samples.returns_none, domain="nowhere")
        text = until(lambda: [said for said in caplog.messages if "work waits" in said], "the complaint", 15)[0]
        assert f"worker {rig.name_of(samples.returns_none)!r} is handed nothing, and work waits" in text
        assert f"workflow {misled} waits in domain 'nowhere', where nobody polls" in text
        assert rig.client.get_queue_sizes([rig.name_of(samples.raises_value_error)]) == {
            rig.name_of(samples.raises_value_error): 1
        }
    assert not [said for said in caplog.messages if "work waits" in said and "raises_value_error" in said]
