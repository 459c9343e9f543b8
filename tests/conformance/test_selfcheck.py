"""The look at the queues, against a server that has them."""

from __future__ import annotations

import pytest

import samples
from conformance.stage import Server
from podium import selfcheck
from rig import Rig, until


@pytest.fixture
def rig(server: Server) -> Rig:
    return Rig(server.url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "INTERVAL", 0.5)
    monkeypatch.setattr(selfcheck, "SLACK", 0.1)
    monkeypatch.setattr(selfcheck, "_LOOKS_ELSEWHERE", 1000)  # a real server knows late who polls


def test_work_in_a_domain_where_nobody_polls_is_told_and_a_retry_that_waits_is_not(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.define(samples.returns_none, samples.raises_value_error, retry_count=1, retry_delay_seconds=600)
    workers = [rig.worker(samples.returns_none), rig.worker(samples.raises_value_error)]
    with rig.running(*workers, isolation="thread"):
        rig.start(samples.raises_value_error)
        failing = rig.name_of(samples.raises_value_error)
        until(lambda: rig.client.get_queue_sizes([failing])[failing] == 1, "the retry that waits")
        rig.start(samples.returns_none, domain="nowhere")
        text = until(lambda: [said for said in caplog.messages if "work waits" in said], "the complaint")[0]
        assert f"worker {rig.name_of(samples.returns_none)!r} is handed nothing, and work waits" in text
        assert "where nobody polls: 1 tasks in domain 'nowhere'; this worker polls without a domain" in text
    assert not [said for said in caplog.messages if "work waits" in said and "raises_value_error" in said]
