"""Results that wait while the network is gone, as the server sees it: both servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.stage import Server
from podium import Client, Configuration, MetricsCollector
from rig import Rig, until
from toxic_proxy import ToxicProxy


class Scene:
    """A worker behind a network that can be taken away, and a client that is not."""

    def __init__(self, url: str, proxy: ToxicProxy, spool: Path) -> None:
        self.proxy = proxy
        self.spool = spool
        self.rig = Rig(proxy.url)
        self.client = Client(Configuration(server_api_url=url))
        self.collector = MetricsCollector()
        self.running, self.go = threading.Event(), threading.Event()

    def work(self) -> dict[str, str]:
        self.running.set()
        assert self.go.wait(30)
        return {"made": "while the network was gone"}

    def finish_without_network(self, **definition: Any) -> str:
        """Let a task end while the network is gone; return the workflow's id when its result is on disk."""
        self.rig.define(self.work, **definition)
        workflow_id = self.rig.start(self.work)
        assert self.running.wait(30)
        self.proxy.down()
        self.go.set()
        until(lambda: list(self.spool.glob("results-*/*.json")), "the result on disk")
        return workflow_id

    def count(self, name: str) -> float:
        return float(sum(self.collector.get_metrics().get(name, {}).values()))


@pytest.fixture
def scene(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("CONDUCTOR_SPOOL_DIR", str(tmp_path / "spool"))
    port = urlsplit(server.url).port
    assert port is not None
    with ToxicProxy(port) as proxy:
        scene = Scene(server.url, proxy, tmp_path / "spool")
        worker = scene.rig.worker(scene.work, thread_count=1)
        with scene.rig.running(worker, isolation="thread", event_listeners=[scene.collector]):
            yield scene
            scene.go.set()


def test_B01_result_is_delivered_when_the_network_is_back(scene: Scene) -> None:
    workflow_id = scene.finish_without_network()
    scene.proxy.up()
    until(lambda: scene.client.get_workflow(workflow_id).status == "COMPLETED", "the end of the workflow", deadline=5)
    (task,) = scene.client.get_workflow(workflow_id).tasks
    assert task.output_data == {"made": "while the network was gone"}
    until(lambda: scene.count("task_results_waiting") == 0, "nothing waiting")
    assert scene.count("task_result_superseded_total") == 0


def time_out(scene: Scene, workflow_id: str) -> None:
    def timed_out() -> bool:
        scene.client.decide_workflow(workflow_id)
        return scene.client.get_workflow(workflow_id).tasks[0].status == "TIMED_OUT"

    until(timed_out, "the response timeout")


def remove(scene: Scene, workflow_id: str) -> None:
    scene.client.terminate_workflow(workflow_id)
    scene.client.remove_workflow(workflow_id, archive=False)


@pytest.mark.parametrize("give_up", [time_out, remove])
def test_result_that_nobody_waits_for_any_more_is_recognised_counted_and_kept(
    scene: Scene, give_up: Callable[[Scene, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    workflow_id = scene.finish_without_network(response_timeout_seconds=1, timeout_seconds=0)
    give_up(scene, workflow_id)
    scene.proxy.up()
    until(lambda: scene.count("task_result_superseded_total") == 1, "the superseded result", deadline=10)
    until(lambda: list((scene.spool / "superseded").glob("*.json")), "the result that was kept")
    assert not list(scene.spool.glob("results-*/*.json"))
    assert len([line for line in caplog.messages if "nobody waits for the result of task" in line]) == 1
