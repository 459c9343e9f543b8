"""Tokens that end, logins that fail: whole engines, and what they hold meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

import samples
from engine_fakes import FakeClient, task_json
from fake_server import Answer, FakeServer, Request, error_answer, json_answer, text_answer
from podium import AuthenticationSettings, Configuration, TaskHandler
from podium.errors import AuthError
from rig import Rig, until
from runner_stage import Theatre, seconds
from scene import NOTHING, raw_tasks, reports_to

LOGIN = "/api/token"
REFUSALS = {
    "expired": json_answer({"error": "EXPIRED_TOKEN"}, 401),
    "invalid": json_answer({"error": "INVALID_TOKEN"}, 401),
    "no code": error_answer(401, "who are you"),
    "web page": Answer(status=401, body=b"<html><title>Sign in</title></html>", headers={"Content-Type": "text/html"}),
}


class Gate:
    """A server whose tokens can be ended, and whose login can be down."""

    def __init__(self, server: FakeServer, refusal: Answer = REFUSALS["expired"]) -> None:
        self.server = server
        self.refusal = refusal
        self.valid = ""
        self.logins = 0
        #: What a login gets instead of a token.
        self.down: Answer | None = None
        self.refused: list[str] = []
        #: Ids of the tasks whose results were taken, once for each time.
        self.taken: list[str] = []
        self.given: set[str] = set()
        self._lock = threading.Lock()
        server.on("POST", LOGIN, self._login)

    def _login(self, _: Request) -> Answer:
        self.logins += 1
        if self.down is not None:
            return self.down
        self.valid = f"token-{self.logins}"
        return json_answer({"token": self.valid})

    def end_tokens(self) -> None:
        self.valid = "none"

    def checked(self, answer: Answer) -> Any:
        def give(request: Request) -> Answer:
            if request.headers.get("x-authorization") == self.valid:
                if request.method == "POST":
                    self.taken.append(request.json["taskId"])
                return answer
            self.refused.append(request.path)
            return self.refusal

        return give

    def guard(self, worker: str, *names: str) -> None:
        """Ask for a token for every request; hand out the tasks, once, in answer to a poll that has it."""
        tasks = raw_tasks(*(task_json(name, inputData={}) for name in names))

        def poll(request: Request) -> Answer:
            answer: Answer = self.checked(NOTHING)(request)
            if answer is NOTHING and not self.given:
                self.given.update(names)
                return tasks
            return answer

        self.server.on("GET", f"/api/tasks/poll/batch/{worker}", poll)
        self.server.on("POST", "/api/tasks", self.checked(text_answer("id")))
        self.server.on("POST", "/api/tasks/update-v2", self.checked(Answer(status=204)))


def secured(server: FakeServer, **settings: Any) -> Configuration:
    credentials = AuthenticationSettings(key_id="key", key_secret="secret")
    return Configuration(server_api_url=server.url, authentication_settings=credentials, **settings)


def handler_of(rig: Rig, server: FakeServer, function: Any, threads: int, **settings: Any) -> TaskHandler:
    worker = rig.worker(function, thread_count=threads)
    return TaskHandler(
        [worker], secured(server, **settings), scan_for_annotated_workers=False, isolation="thread",
        update_retry_delays=(0.2, 0.4, 0.8),
    )  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_B20_results_of_twenty_threads_that_find_the_token_ended_cost_one_login_and_are_all_taken(
    server: FakeServer, refusal: Answer
) -> None:
    gate = Gate(server, refusal)
    names = [f"t{number}" for number in range(20)]
    all_run = threading.Barrier(20, action=gate.end_tokens)

    def function() -> None:
        all_run.wait(10)

    rig = Rig(server.url)
    gate.guard(rig.name_of(function), *names)
    with handler_of(rig, server, function, 20) as handler:
        handler.start_processes()
        until(lambda: len(gate.taken) == 20, "all taken")
    assert sorted(gate.taken) == sorted(names)
    assert len(reports_to(server)) <= 40  # each at most once with the old token, and once with the new one
    assert gate.logins == 2


@pytest.mark.parametrize("status", [302, 307])
def test_S01_B19_neither_token_nor_secret_nor_result_follows_a_redirect(
    server: FakeServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with FakeServer() as elsewhere:
        elsewhere.otherwise(json_answer({"token": "theirs"}))
        away = Answer(status=status, headers={"Location": f"{elsewhere.url}/tasks"})
        gate = Gate(server)
        rig = Rig(server.url)
        gate.guard(rig.name_of(samples.returns_none), "a")
        gate.down = away  # the login, first
        with handler_of(rig, server, samples.returns_none, 4) as handler:
            handler.start_processes()
            login = until(lambda: handler.get_worker_status()[0]["poll_failure"], "the failed login")
            gate.down = None
            server.on("POST", "/api/tasks", away, gate.checked(text_answer("id")))
            until(lambda: gate.taken == ["a"], "the result")
            server.on("GET", f"/api/tasks/poll/batch/{rig.name_of(samples.returns_none)}", away)
            poll = until(lambda: handler.get_worker_status()[0]["poll_failure"], "the failed poll")
        assert elsewhere.connections == 0
    (update,) = [message for message in caplog.messages if "did not take the update" in message]
    assert all(f"redirects ({status}) to 127.0.0.1:{elsewhere.port};" in words for words in (login, update, poll))
    assert "/token: " in login
    assert "/tasks/poll/batch/" in poll


def test_B21_old_token_serves_and_no_result_is_lost_while_the_login_is_down(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The token comes of age (0.6 s) while the login is down for some seconds; then it is refused, too."""
    gate = Gate(server)
    go = threading.Event()

    def function() -> None:
        assert go.wait(20)

    rig = Rig(server.url)
    gate.guard(rig.name_of(function), "a", "b", "c")
    with caplog.at_level(logging.INFO), handler_of(rig, server, function, 4, auth_token_ttl_min=0.01) as handler:
        handler.start_processes()
        until(lambda: gate.given, "the tasks")
        gate.down = error_answer(503, "down")
        until(lambda: gate.logins >= 3, "renewals that fail")
        assert gate.refused == []  # the old token serves
        gate.end_tokens()
        go.set()
        until(lambda: len(gate.refused) > 4, "refusals")
        assert gate.taken == []
        gate.down = None
        back = time.monotonic()
        until(lambda: len(gate.taken) == 3, "all taken")
        assert time.monotonic() - back < 3
    assert sorted(gate.taken) == ["a", "b", "c"]
    warnings = [record.getMessage() for record in caplog.records if "the old one stays in use" in record.getMessage()]
    assert len(warnings) == 1


def test_B22_revoked_credentials_leave_the_worker_alive_patient_and_naming_them(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(server)
    gate.down = error_answer(401, "revoked")
    rig = Rig(server.url)
    gate.guard(rig.name_of(samples.returns_none), "a")
    with handler_of(rig, server, samples.returns_none, 4) as handler:
        handler.start_processes()
        failure = until(lambda: handler.get_worker_status()[0]["poll_failure"], "the failure in the status")
        assert failure.endswith("/token: 401 revoked; the key or its secret was refused")
        assert gate.logins == 1
        gate.down = None  # they are accepted again
        until(lambda: handler.get_worker_status()[0]["poll_failure"] is None, "a poll")
    assert len([record for record in caplog.records if "the key or its secret was refused" in record.getMessage()]) == 1


def test_B22_polls_of_revoked_credentials_come_once_a_minute_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    client.last_answer = AuthError(401, "revoked", method="POST", path="/token")
    stage = Theatre(monkeypatch).show(seconds(400), client)
    assert stage.waits[:7] == [2, 4, 8, 16, 32, 60, 60]
