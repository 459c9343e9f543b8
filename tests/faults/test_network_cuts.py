"""Connections that are cut: before a request, after it, in the middle of an answer, all at once. Through the proxy."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

import pytest

from bad_network import BadNetwork, bad_network
from checker import noisy
from event_log import Kind
from fake_server import Request, error_answer
from rig import until
from toxic_proxy import POLL, UPDATE, CutAfter, CutBefore, Latency, Swallow, Way

#: Request lines of the two ways to report.
V1 = rb"POST \S*/tasks "
V2 = rb"POST \S*/tasks/update-v2 "


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def resent_after(network: BadNetwork, cut: CutBefore | CutAfter) -> float:
    """Return the longest time from a cut to the next report that the server accepted or recognised."""
    reports = [event.at for event in network.log.of(Kind.RESULT)]
    return max(min((at - struck for at in reports if at > struck), default=99.0) for struck in cut.struck)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("update", [V1, V2], ids=["v1", "v2"])
def test_B04_update_that_is_cut_before_the_server_reads_it_is_resent_and_hurts_no_poll(
    update: bytes, reset: bool
) -> None:
    with bad_network(update_v2=update is V2) as network:
        go = threading.Event()
        # Every poll takes 0.3 s: there is one under way whenever an update is cut.
        network.proxy.add(Latency(0.3, requests=POLL, ways=frozenset({Way.DOWN})))
        network.server.add("t", 4)
        with network.running(network.working(go=go), slots=8) as handler:
            until(lambda: handler.get_worker_status()[0]["running"] == 4, "four tasks running")
            with network.proxy.toxic(CutBefore(update, times=2, reset=reset)) as cut:
                network.server.add("t", 10)
                go.set()
                network.server.wait_for_end(10)
        assert cut.count == 2
        assert resent_after(network, cut) < 1
        assert network.heard.poll_failures == []
        assert network.server.statuses() == {"COMPLETED": 14}
        assert network.server.duplicates == 0


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("update", [V1, V2], ids=["v1", "v2"])
def test_B05_update_whose_answer_is_cut_is_resent_and_counts_once(update: bytes, reset: bool) -> None:
    # Both tasks are running before the cut, so that no answer carries a next task with it.
    with bad_network(update_v2=update is V2) as network:
        go = threading.Event()
        network.server.add("t", 2)
        with network.running(network.working(go=go), slots=2) as handler:
            until(lambda: handler.get_worker_status()[0]["running"] == 2, "two tasks running")
            with network.proxy.toxic(CutAfter(update, times=1, reset=reset)) as cut:
                go.set()
                until(lambda: len(network.heard.updates) == 2, "both acknowledged", deadline=10)
        assert cut.count == 1
        assert resent_after(network, cut) < 1
        assert network.server.statuses() == {"COMPLETED": 2}
        assert network.server.duplicates == 1
        assert len([event for event in network.log.of(Kind.RESULT) if event.accepted]) == 2
        assert network.heard.update_failures == []


def test_B05_task_in_the_answer_that_was_cut_comes_back_after_its_response_timeout() -> None:
    """update-v2 hands out the next task in its answer: with that cut, nobody but the server can know of it."""
    with bad_network(response_timeout=1, retries=1) as network:
        network.server.add("t", 30)
        network.proxy.add(CutAfter(V2, times=1))
        with network.running(network.working(), slots=1):
            network.server.wait_for_end(15)
        assert network.server.statuses() == {"COMPLETED": 30, "TIMED_OUT": 1}
        assert network.server.duplicates == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98], ids=["no byte", "half", "all but the end"])
def test_B06_poll_answer_that_is_cut_half_way_is_a_failed_poll_and_the_next_one_works(
    share: float, caplog: pytest.LogCaptureFixture
) -> None:
    with bad_network(response_timeout=1, retries=1) as network:
        network.proxy.add(CutAfter(POLL, share=share, times=2))
        network.server.add("t", 2)
        with network.running(network.working(), poll_interval=200):
            network.server.wait_for_end(10)
        # The two tasks in the first answer are lost with it, and only the server can bring them back.
        assert network.server.statuses() == {"TIMED_OUT": 2, "COMPLETED": 2}
        polls = [event.at for event in network.log.of(Kind.POLL)][:3]
        assert polls[1] - polls[0] < 1
        assert polls[2] - polls[1] < 1
        assert network.heard.poll_failures
        assert len(warnings_of(caplog)) == 1


def test_B07_poll_that_is_swallowed_does_not_make_the_worker_deaf(caplog: pytest.LogCaptureFixture) -> None:
    with bad_network(response_timeout=2, retries=1) as network:
        swallow = network.proxy.add(Swallow(requests=POLL, ways=frozenset({Way.UP})))
        with network.running(network.working(), poll_timeout=100):
            until(lambda: swallow.count, "a poll that was swallowed")
            network.proxy.remove(swallow)
            network.server.add("t")
            network.server.wait_for_end(10)
        first = network.log.of(Kind.POLL)[0].at
        assert 4.5 < first - swallow.struck[0] < 7.5


def test_B08_update_that_is_never_answered_is_sent_again_while_heartbeats_go_on() -> None:
    with bad_network(response_timeout=2) as network:
        network.server.add("t")
        swallow = network.proxy.add(Swallow(requests=UPDATE, ways=frozenset({Way.UP})))
        with network.running(network.working(seconds=0.3), slots=1):
            until(lambda: swallow.count, "the update that was swallowed")
            network.proxy.remove(swallow)  # for new requests: what was swallowed stays so
            network.server.wait_for_end(16)
        assert 0 < network.log.of(Kind.RESULT)[0].at - swallow.struck[0] < 15
        # 10 s of silence with a lease of 2 s: kept by heartbeats, as the checker has found by now.
        assert network.log.count(Kind.HEARTBEAT) >= 8
        assert network.server.statuses() == {"COMPLETED": 1}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_B17_idle_connections_that_all_end_cost_no_task_and_no_warning(
    reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()
    with bad_network() as network:
        network.server.add("t", 4)
        with network.running(network.working(go=go), slots=4) as handler:
            until(lambda: handler.get_worker_status()[0]["running"] == 4, "all slots busy")
            network.proxy.cut_connections(reset=reset)
            go.set()
            network.server.add("t", 20)
            network.server.wait_for_end(10)
        assert network.server.statuses() == {"COMPLETED": 24}
        assert network.server.duplicates == 0
        assert len(warnings_of(caplog)) <= 1


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_B17_server_that_restarts_under_load_loses_no_task(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    with bad_network(response_timeout=1, retries=3) as network:
        network.server.add("t", 600)

        def reached(count: int) -> bool:
            return network.log.count(Kind.ENDED) >= count

        with network.running(network.working(seconds=0.02), slots=10):
            for number in range(1, 6):
                until(partial(reached, number * 80), "part of the load")
                network.proxy.down(reset=reset)
                time.sleep(0.05)
                network.proxy.up()
            network.server.wait_for_end(30)
        statuses = network.server.statuses()
        assert statuses.pop("COMPLETED") == 600
        # Only tasks in answers that were cut had to be taken back by the server: a poll's, and of each open update one.
        assert statuses.get("TIMED_OUT", 0) <= 5 * (10 + 10)
        assert set(statuses) <= {"TIMED_OUT"}
        assert list(noisy(caplog.records)) == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Validation failed"),
        (409, "conflict"),
        (413, "too large"),
        (422, "unprocessable"),
        (500, "JSON parse error: Unexpected character"),
    ],
)
def test_B11_refused_result_is_one_try_and_one_small_terminal_failure(status: int, message: str) -> None:
    refused: list[Any] = []

    with bad_network(update_v2=False) as network:

        def refuse(request: Request) -> Any:
            if b"COMPLETED" in request.body:
                refused.append(time.monotonic())
                return error_answer(status, message)
            return network.server.answer(request)

        network.server.on("POST", "/api/tasks", refuse)
        network.server.add("t")
        with network.running(network.working(), slots=1) as handler:
            network.server.wait_for_end(5)
            until(lambda: handler.get_worker_status()[0]["running"] == 0, "the free slot", deadline=1)
        assert len(refused) == 1
        (attempt,) = network.server.attempts.values()
        assert attempt.status == "FAILED_WITH_TERMINAL_ERROR"
        assert message in attempt.reason
        assert network.log.of(Kind.RESULT)[0].at - refused[0] < 1


@pytest.mark.parametrize("message", ["No such workflow found by id: w", "No such task found by id: t"])
def test_B12_update_v2_that_does_not_know_one_task_is_still_used_for_others(message: str) -> None:
    with bad_network() as network:
        v2 = "/api/tasks/update-v2"
        network.server.on("POST", v2, error_answer(404, message), network.server.answer)
        ids = network.server.add("t", 20)
        with network.running(network.working(), slots=1):
            until(lambda: network.log.count(Kind.RESULT) >= 19, "the others", deadline=10)
            # The first task's workflow is gone: nobody waits for its result, which is no reason to fail others.
            network.server.cancel(ids[0])
            network.server.wait_for_end(5)
        assert network.server.statuses() == {"COMPLETED": 19, "CANCELED": 1}
        assert len(network.server.to(v2)) >= 15
