"""Credentials and tokens: one login for everybody, no request without a token, no secret in sight."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from fake_server import Answer, FakeServer, Fault, Gate, Request, error_answer, json_answer, text_answer
from podium import tokens as tokens_module
from podium.config import AuthenticationSettings, Configuration
from podium.errors import AnswerError, AuthError, ConnectError, PodiumError, ServerError
from podium.sync import Client
from podium.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "planted-secret"
LOGIN = "/api/token"


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tokens_module, "time", clock)
    return clock


class Gatekeeper:
    """A server side that hands out tokens t1, t2 ... and accepts only the newest of its choice."""

    def __init__(self, server: FakeServer, refusal: Answer | None = None) -> None:
        self.server = server
        self.issued = 0
        self.valid = ""
        self.refusal = refusal or json_answer({"error": "EXPIRED_TOKEN", "message": "token expired"}, 401)
        server.on("POST", LOGIN, self.login)
        server.otherwise(self.check)

    def login(self, _: Request) -> Answer:
        self.issued += 1
        self.valid = f"t{self.issued}"
        return json_answer({"token": self.valid})

    def check(self, request: Request) -> Answer:
        return text_answer("ok") if request.headers.get("x-authorization") == self.valid else self.refusal

    @property
    def sent_tokens(self) -> list[str | None]:
        return [request.headers.get("x-authorization") for request in self.server.requests if request.path != LOGIN]


def secured(server: FakeServer, **settings: Any) -> Configuration:
    credentials = AuthenticationSettings(key_id="key", key_secret=SECRET)
    return Configuration(server_api_url=server.url, authentication_settings=credentials, **settings)


def run(server: FakeServer, *steps: Callable[[], object] | int, **settings: Any) -> list[object]:
    """Run requests on one transport: a number stands for so many at once, a function is called in between."""

    async def work() -> list[object]:
        transport = Transport(secured(server, **settings))
        outcomes: list[object] = []
        for step in steps:
            if callable(step):
                step()
            else:
                requests = (transport.request("POST", "/x", body=b"{}") for _ in range(step))
                outcomes += await asyncio.gather(*requests, return_exceptions=True)
        await transport.aclose()
        return [
            getattr(outcome, "status", outcome) if not isinstance(outcome, Exception) else outcome
            for outcome in outcomes
        ]

    return asyncio.run(work())


def test_credentials_become_a_token_before_the_first_request() -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)
        assert run(server, 1, 1, 1) == [200, 200, 200]
        assert [request.path for request in server.requests] == [LOGIN, "/api/x", "/api/x", "/api/x"]
        assert server.requests[0].json == {"keyId": "key", "keySecret": SECRET}
        assert "x-authorization" not in server.requests[0].headers
        assert keeper.sent_tokens == ["t1", "t1", "t1"]


def test_twenty_first_requests_share_one_login() -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)
        assert run(server, 20) == [200] * 20
        assert (keeper.issued, keeper.sent_tokens) == (1, ["t1"] * 20)


@pytest.mark.parametrize(
    "refusal",
    [
        json_answer({"error": "EXPIRED_TOKEN"}, 401),
        json_answer({"error": "INVALID_TOKEN"}, 401),
        json_answer({"error": "EXPIRED_TOKEN"}, 403),
        json_answer({"error": "INVALID_TOKEN"}, 403),
        json_answer({"message": "who are you"}, 401),
        json_answer(["odd"], 401),
        text_answer("<html>login</html>", 401),
        Answer(status=401),
    ],
)
def test_B20_a_storm_of_refused_tokens_is_one_login_and_nothing_is_lost(refusal: Answer) -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server, refusal)
        outcomes = run(server, 1, lambda: setattr(keeper, "valid", "revoked"), 20, 1)
        assert outcomes == [200] * 22
        assert keeper.issued == 2
        assert set(keeper.sent_tokens) == {"t1", "t2"}


def test_a_403_that_is_about_permissions_does_not_cost_a_login() -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server, json_answer({"error": "FORBIDDEN", "message": "not yours"}, 403))
        (outcome,) = run(server, 1, lambda: setattr(keeper, "valid", "other"), 1)[1:]
        assert isinstance(outcome, AuthError)
        assert (keeper.issued, outcome.code, outcome.message) == (1, "FORBIDDEN", "not yours")
        assert str(outcome) == f"POST {server.url}/x: 403 not yours"


def test_a_401_that_a_new_token_does_not_heal_is_reported_after_one_repetition() -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)
        outcomes = run(server, 1, lambda: server.otherwise(error_answer(401, "no")), 20)
        assert {type(outcome) for outcome in outcomes[1:]} == {AuthError}
        assert keeper.issued == 2  # the first one, and one for all 20 refusals
        assert max(Counter(keeper.sent_tokens).values()) <= 21  # no request repeats with the same token


def test_an_endpoint_that_always_answers_401_does_not_make_a_login_of_every_request(clock: Clock) -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)

        def three_seconds_later() -> None:
            clock.now += 3

        run(server, 1, lambda: server.otherwise(error_answer(401, "no")), 1, 1, 1, three_seconds_later, 1, 1)
        assert keeper.issued == 3


def test_the_token_is_shared_by_all_transports_and_threads_of_the_process() -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)
        configuration = secured(server)
        start = threading.Barrier(6)

        def call(number: int) -> object:
            start.wait(10)
            if number % 2:
                with Client(configuration) as client:
                    return client.append_task_log("1", "line")
            return asyncio.run(Transport(configuration).request("POST", "/x")).status

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(call, range(6))) == [200, None] * 3
        assert keeper.issued == 1


def test_a_token_of_age_is_renewed_once_and_nobody_waits_for_it_in_vain(clock: Clock) -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)

        def grow_old() -> None:
            clock.now += 46 * 60

        assert run(server, 1, grow_old, 20, 1) == [200] * 22
        assert keeper.issued == 2


def test_the_age_is_a_setting(clock: Clock) -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)

        def pass_time() -> None:
            clock.now += 61

        run(server, 1, pass_time, 1, auth_token_ttl_min=1)
        assert keeper.issued == 2


@pytest.mark.parametrize("fault", [error_answer(503, "down"), error_answer(401, "revoked"), Answer(fault=Fault.CUT)])
def test_defect_12_a_failed_renewal_keeps_the_token_in_use(
    fault: Answer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Peers forget the token then: every later request goes out without one, for good."""
    with FakeServer() as server:
        keeper = Gatekeeper(server)

        def login_breaks() -> None:
            clock.now += 46 * 60
            server.on("POST", LOGIN, fault)

        def login_heals() -> None:
            clock.now += 60
            server.on("POST", LOGIN, keeper.login)

        outcomes = run(server, 1, login_breaks, 20, 20, 20, login_heals, 20)
        assert outcomes == [200] * 81
        assert keeper.sent_tokens[:61] == ["t1"] * 61
        assert keeper.sent_tokens[-1] == "t2"
        assert len(server.to(LOGIN)) == 3  # first, one failed attempt within the pause, renewed
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_B21_a_refused_token_is_replaced_as_soon_as_the_login_is_back(clock: Clock) -> None:
    with FakeServer() as server:
        keeper = Gatekeeper(server)

        def all_down() -> None:
            keeper.valid = "restarted"
            server.on("POST", LOGIN, error_answer(503, "down"))

        def three_seconds_later() -> None:
            clock.now += 3

        def back() -> None:
            three_seconds_later()
            server.on("POST", LOGIN, keeper.login)

        outage: list[Callable[[], object] | int] = [three_seconds_later, 1] * 10
        outcomes = run(server, 1, all_down, 20, 20, *outage, back, 20)
        failures = outcomes[1:51]
        assert {type(outcome) for outcome in failures} == {ServerError}  # not AuthError: it may heal by itself
        assert outcomes[51:] == [200] * 20
        assert None not in keeper.sent_tokens
        assert len(server.to(LOGIN)) == 1 + 1 + 10 + 1  # 40 refusals at once are one attempt, then one per pause


def test_B22_credentials_that_are_refused_are_an_auth_error_without_a_request(clock: Clock) -> None:
    with FakeServer() as server:
        server.on("POST", LOGIN, error_answer(401, f"bad key: {SECRET}"))
        outcomes = run(server, 20, 20)
        assert {type(outcome) for outcome in outcomes} == {AuthError}
        assert SECRET not in str(outcomes[0])
        assert str(outcomes[0]) == f"POST {server.url}/token: 401 bad key: ***; the key or its secret was refused"
        assert [request.path for request in server.requests] == [LOGIN]


def test_a_login_that_cannot_connect_is_a_connect_error() -> None:
    with FakeServer() as server:
        pass
    (outcome,) = run(server, 1)
    assert isinstance(outcome, ConnectError)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"token": ""}', b'{"token": 7}', b'{"token": "a\\nb: c"}']
)
def test_an_answer_without_a_token_is_an_answer_error(body: bytes) -> None:
    with FakeServer() as server:
        server.on("POST", LOGIN, Answer(body=body))
        (outcome,) = run(server, 1)
        assert isinstance(outcome, AnswerError)
        assert len(server.requests) == 1


def test_a_server_without_login_is_open_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with FakeServer() as server:
        server.otherwise(lambda request: error_answer(404, "?") if request.path == LOGIN else text_answer("ok"))
        assert run(server, 5, 5) == [200] * 10
        assert len(server.to(LOGIN)) == 1
        assert all("x-authorization" not in request.headers for request in server.requests)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_an_open_server_that_closes_is_logged_into() -> None:
    with FakeServer() as server:
        server.on("POST", LOGIN, error_answer(404, "?"))
        server.otherwise(text_answer("ok"))
        outcomes = run(server, 1, lambda: Gatekeeper(server), 5)
        assert outcomes == [200] * 6


def test_a_cancelled_login_is_taken_over_by_the_next_in_line() -> None:
    async def work(server: FakeServer, gate: Gate) -> int:
        transport = Transport(secured(server))
        first = asyncio.create_task(transport.request("POST", "/x"))
        await asyncio.to_thread(server.wait_for, 1, LOGIN)
        second = asyncio.create_task(transport.request("POST", "/x"))
        await asyncio.to_thread(lambda: None)  # let it join the attempt
        first.cancel()
        await asyncio.wait([first])
        gate.open()
        return (await second).status

    gate = Gate()
    with FakeServer() as server:
        keeper = Gatekeeper(server)
        server.on("POST", LOGIN, json_answer({"token": "never used"}, gate=gate), keeper.login)
        assert asyncio.run(work(server, gate)) == 200
        assert keeper.sent_tokens == ["t1"]


def test_a_waiter_that_is_cancelled_does_not_end_the_login_of_the_others() -> None:
    async def work(server: FakeServer, gate: Gate) -> int:
        transport = Transport(secured(server))
        first = asyncio.create_task(transport.request("POST", "/x"))
        await asyncio.to_thread(server.wait_for, 1, LOGIN)
        second = asyncio.create_task(transport.request("POST", "/x"))
        await asyncio.to_thread(lambda: None)
        second.cancel()
        gate.open()
        return (await first).status

    gate = Gate()
    with FakeServer() as server:
        server.on("POST", LOGIN, json_answer({"token": "t"}, gate=gate))
        server.otherwise(text_answer("ok"))
        assert asyncio.run(work(server, gate)) == 200


def test_defect_33_only_the_given_configuration_decides_where_credentials_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as elsewhere, FakeServer() as server:
        monkeypatch.setenv("CONDUCTOR_SERVER_URL", elsewhere.url)
        monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "environment-key")
        monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "environment-secret")
        Gatekeeper(server)
        assert run(server, 2) == [200, 200]
        assert elsewhere.connections == 0
        assert server.requests[0].json == {"keyId": "key", "keySecret": SECRET}


def test_defect_44_an_auth_error_is_known_by_its_status_whatever_its_body() -> None:
    with FakeServer() as server:
        server.on("POST", LOGIN, json_answer({"token": "t"}))
        server.otherwise(json_answer({"error": "NOPE", "message": "no status field"}, 401))
        (outcome,) = run(server, 1)
        assert isinstance(outcome, AuthError)
        assert (outcome.status, outcome.code) == (401, "NOPE")


def test_S05_secret_and_token_show_nowhere(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level(logging.DEBUG)
    token = "planted-token"
    with FakeServer() as server:
        server.on("POST", LOGIN, json_answer({"token": token}), error_answer(500, f"{SECRET}?"))
        server.otherwise(lambda request: error_answer(401, f"token {request.headers['x-authorization']} is no good"))

        def grow_old() -> None:
            clock.now += 46 * 60

        outcomes = run(server, 1, grow_old, 1)
        configuration = secured(server)
        shown = [repr(configuration), str(configuration.authentication_settings), repr(Transport(configuration))]
    for outcome in outcomes:
        assert isinstance(outcome, PodiumError)
        shown += [str(outcome), repr(outcome), repr(outcome.__cause__), repr(outcome.__context__)]
    assert "planted" not in "".join(shown) + caplog.text


def test_S03_plain_http_with_credentials_to_another_machine_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    credentials = AuthenticationSettings(key_id="key", key_secret=SECRET)
    for _ in range(2):
        Transport(Configuration(server_api_url="http://conductor.example/api", authentication_settings=credentials))
    for url in ("http://127.0.0.1/api", "http://[::1]:80/api", "http://localhost/api", "https://conductor.example/api"):
        Transport(Configuration(server_api_url=url, authentication_settings=credentials))
    Transport(Configuration(server_api_url="http://open.example/api"))
    assert ["unencrypted" in record.message for record in caplog.records] == [True]
