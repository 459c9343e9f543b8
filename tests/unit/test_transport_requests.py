"""Requests and answers: what goes out, what comes back, and which error stands for which fault."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from pyreqwest import exceptions as http_errors

from fake_server import Answer, FakeServer, Fault, Gate, error_answer, json_answer, text_answer
from podium.answers import MAX_MESSAGE, elements_of
from podium.client import AsyncClient
from podium.config import Configuration
from podium.errors import (
    AnswerError,
    ApiError,
    AuthError,
    BadRequestError,
    ConfigError,
    ConflictError,
    ConnectError,
    CutError,
    NotFoundError,
    PodiumError,
    RateLimitedError,
    ServerError,
    TimeoutExceededError,
    TransportError,
)
from podium.library import classified
from podium.sync import Client
from podium.transport import Transport, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.answers import Response


def send(url: str, method: str = "GET", path: str = "/x", *, times: int = 1, **options: Any) -> Response:
    """Send a request (several times on one transport) and return the last answer."""
    settings = {name: options.pop(name) for name in ("connect_timeout", "request_timeout", "proxy") if name in options}

    async def work() -> Response:
        transport = Transport(Configuration(server_api_url=url, **settings))
        try:
            for _ in range(times - 1):
                await transport.request(method, path, **options)
            return await transport.request(method, path, **options)
        finally:
            await transport.aclose()

    return asyncio.run(work())


def test_a_request_carries_method_query_body_and_content_type() -> None:
    with FakeServer() as server:
        server.otherwise(text_answer("id-1"))
        response = send(server.url, "POST", "/tasks", query=[("a", "1"), ("a", "x y")], body=b"{}")
        request = server.requests[0]
    assert (response.status, response.body, response.content_type) == (200, b"id-1", "text/plain")
    assert (request.method, request.target) == ("POST", "/api/tasks?a=1&a=x+y")
    assert (request.headers["content-type"], request.body) == ("application/json", b"{}")
    assert "x-authorization" not in request.headers


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_header_that_is_no_ascii_text_breaks_nothing(*, is_direct: bool) -> None:
    with FakeServer() as server:
        server.otherwise(Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Type: \xff\r\nContent-Length: 2\r\n\r\nok"))
        assert send(server.url, proxy=None if is_direct else server.origin).body == b"ok"


def test_only_http_1_1_and_only_gzip_are_offered() -> None:
    with FakeServer() as server:
        server.otherwise(Answer(body=gzip.compress(b"[1]"), headers={"Content-Encoding": "gzip"}))
        assert send(server.url).body == b"[1]"
        assert server.requests[0].headers["accept-encoding"] == "gzip"
        assert "upgrade" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("name", "encoded"),
    [("a b", "a%20b"), ("ü?#%", "%C3%BC%3F%23%25"), ("%2e%2e", "%252e%252e"), ("d:x", "d%3Ax"), ("...", "...")],
)
def test_names_are_one_path_segment(name: str, encoded: str) -> None:
    with FakeServer() as server:
        server.otherwise(json_answer([]))
        send(server.url, path="/tasks/poll/" + quoted(name))
        assert server.requests[0].target == "/api/tasks/poll/" + encoded


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a/b", "a\0b"])
def test_names_that_could_change_the_path_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name or id"):
        quoted(name)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (403, AuthError),
        (404, NotFoundError),
        (405, BadRequestError),
        (409, ConflictError),
        (429, RateLimitedError),
        (500, ServerError),
        (503, ServerError),
    ],
)
def test_error_statuses_become_api_errors(status: int, kind: type[ApiError]) -> None:
    with FakeServer() as server:
        server.otherwise(error_answer(status, "what went wrong", retryable=True))
        with pytest.raises(kind) as caught:
            send(server.url, "POST", "/tasks", body=b"{}")
    error = caught.value
    assert isinstance(error, ApiError)
    assert (error.status, error.message, error.method, error.path) == (status, "what went wrong", "POST", "/tasks")
    assert error.server_retryable


def test_validation_errors_are_listed_without_the_users_values() -> None:
    entry = {"path": "registerTaskDef.arg0[0].retryCount", "message": "must be >= 0", "invalidValue": "planted-value"}
    with FakeServer() as server:
        server.otherwise(error_answer(400, "Validation failed", validationErrors=[entry, "odd"]))
        with pytest.raises(BadRequestError) as caught:
            send(server.url)
    assert caught.value.validation_errors == ("registerTaskDef.arg0[0].retryCount: must be >= 0",)
    assert "planted-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!doctype html><html><head><title>Bad\nGateway</title></head>...", "Bad\\nGateway"),
        (b"plain \x1b[31mred\x07", "plain \\x1b[31mred\\x07"),
        (b"x" * 1000, "x" * 200 + "..."),
        (b"", "(no message)"),
        (b"[" * 5000, "[" * 200 + "..."),
        (b'{"error": "SOMETHING"}', "SOMETHING"),
        (b'{"message": 7}', "7"),
        (b'{"message": "' + b"y" * 1000 + b'"}', "y" * MAX_MESSAGE + "..."),
    ],
)
def test_error_bodies_of_any_kind_give_a_short_printable_message(body: bytes, message: str) -> None:
    with FakeServer() as server:
        server.otherwise(Answer(status=502, body=body))
        with pytest.raises(ServerError) as caught:
            send(server.url)
    assert caught.value.message == message


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    seen = []
    for value in ("7", later, "0", "-3", "soon"):
        with FakeServer() as server:
            server.otherwise(Answer(status=429, headers={"Retry-After": value}))
            with pytest.raises(RateLimitedError) as caught:
                send(server.url)
            seen.append(caught.value.retry_after)
    assert seen[0] == 7
    assert seen[1] is not None
    assert 25 < seen[1] <= 30
    assert seen[2:] == [0, 0, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_S01_B19_redirects_are_not_followed_and_name_the_host(status: int) -> None:
    with FakeServer() as elsewhere, FakeServer() as server:
        server.otherwise(Answer(status=status, headers={"Location": f"http://u:pw@127.0.0.1:{elsewhere.port}/api"}))
        with pytest.raises(AnswerError, match=f"127.0.0.1:{elsewhere.port}") as caught:
            send(server.url, "POST", body=b"planted-result")
        assert elsewhere.connections == 0
    assert "pw" not in str(caught.value)


def test_a_status_without_meaning_is_an_answer_error() -> None:
    with FakeServer() as server:
        server.otherwise(Answer(status=304))
        with pytest.raises(AnswerError, match="unexpected status 304"):
            send(server.url)


def test_p10_a_login_page_is_no_acknowledgement() -> None:
    page = Answer(body=b"<html><title>Sign in</title></html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with FakeServer() as server:
        server.otherwise(page)
        with pytest.raises(AnswerError, match="a web page came back, not an answer of Conductor: Sign in") as caught:
            send(server.url, "POST", "/tasks", body=b"{}")
    assert str(caught.value).startswith(f"POST {server.url}/tasks: ")


WRONG_URL = "the API's URL ends in /api, such as http://localhost:8080/api"
PAGE = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("base", "answer", "advised"),
    [
        ("", Answer(body=b"<title>UI</title>", headers=PAGE), True),
        ("/api", Answer(body=b"<title>UI</title>", headers=PAGE), True),
        ("", Answer(status=404, body=b"<title>Not Found</title>", headers=PAGE), True),
        ("", Answer(status=405, body=b"<title>Not Allowed</title>", headers=PAGE), True),
        ("", error_answer(404, "No static resource x."), True),
        ("/api", error_answer(404, "No static resource api/x."), False),
        ("", error_answer(404, "No such task found by id: x"), False),
        ("", Answer(status=502, body=b"<title>Bad Gateway</title>", headers=PAGE), False),
    ],
)
def test_answers_of_a_wrong_url_name_it_and_say_how_the_right_one_ends(
    base: str, answer: Answer, *, advised: bool
) -> None:
    with FakeServer() as server:
        server.otherwise(answer)
        with pytest.raises(PodiumError) as caught:
            send(server.origin + base, "POST")
    assert str(caught.value).startswith(f"POST {server.origin}{base}/x: ")
    assert str(caught.value).endswith(WRONG_URL) is advised
    assert WRONG_URL not in getattr(caught.value, "message", "")


@pytest.mark.parametrize("status", [301, 407, 409, 500])
def test_errors_of_every_status_name_the_server_without_its_password(status: int) -> None:
    with FakeServer() as server:
        server.otherwise(error_answer(status, "no"))
        with pytest.raises(PodiumError) as caught:
            send(server.url.replace("http://", "http://me:planted@"))
    assert str(caught.value).startswith(f"GET {server.url.replace('http://', 'http://***@')}/x: ")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_without_credentials_says_that_none_are_set(status: int) -> None:
    with FakeServer() as server:
        server.otherwise(error_answer(status, "no"))
        with pytest.raises(AuthError, match=r"no credentials are set \(CONDUCTOR_AUTH_KEY, ") as caught:
            send(server.url)
    assert caught.value.message == "no"


@pytest.mark.parametrize("host", ["exa^mple", "1.2.3.256", "a..b", "a" * 64])
def test_a_url_with_what_cannot_be_a_host_is_refused_at_once(host: str) -> None:
    with pytest.raises(ConfigError, match="not a server URL"):
        Transport(Configuration(server_api_url=f"http://{host}/api"))
    with pytest.raises(ConfigError, match="not a proxy URL"):
        Transport(Configuration(server_api_url="http://localhost/api", proxy=f"http://{host}:1"))


@pytest.mark.parametrize(
    "host", ["1.2.3.4", "127.1", "[::1]", "[::ffff:1.2.3.4]", "a_b.c-d.e1", "bücher.de", "1.2.3.4a"]
)
def test_a_url_with_any_other_host_is_taken(host: str) -> None:
    Transport(Configuration(server_api_url=f"http://{host}:80/api"))
    Transport(Configuration(server_api_url=f"https://{host}/api"))


def test_a_url_that_only_the_http_library_does_not_understand_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="not a URL that can be used: 'https://xn--a/api'"):
        Transport(Configuration(server_api_url="https://xn--a/api"))


@pytest.mark.parametrize("kind", [Transport, AsyncClient, Client])
@pytest.mark.parametrize("value", ["http://localhost:8080/api", "", {}])
def test_what_is_no_configuration_is_refused_with_the_fix(kind: Callable[[Any], object], value: object) -> None:
    with pytest.raises(ConfigError, match=r"expected a Configuration, e\.g\. Configuration\(server_api_url"):
        kind(value)


# --- faults on the way ---------------------------------------------------------------------------------------------


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_refused_is_a_connect_error_that_names_the_server() -> None:
    port = refused_port()
    with pytest.raises(ConnectError, match=rf"http://127.0.0.1:{port}/api/x: connection refused") as caught:
        send(f"http://127.0.0.1:{port}/api", "POST", body=b"{}")
    assert not caught.value.maybe_applied


def test_an_unknown_host_is_a_connect_error_that_says_so() -> None:
    with pytest.raises(ConnectError, match="host name does not resolve"):
        send("http://no-such-host.invalid/api")


def test_no_connection_in_time_is_a_connect_error() -> None:
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())  # the queue is full now: further connections get no reply
        port = listener.getsockname()[1]
        with pytest.raises(ConnectError, match="no connection in time"):
            send(f"http://127.0.0.1:{port}/api", connect_timeout=0.2)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.CUT_HEAD, Fault.CUT_BODY])
def test_a_post_that_is_cut_is_a_cut_error_and_is_not_repeated(fault: Fault) -> None:
    with FakeServer() as server:
        server.otherwise(json_answer([1, 2, 3], fault=fault))
        with pytest.raises(CutError) as caught:
            send(server.url, "POST", body=b"{}")
        assert len(server.requests) == 1
    assert caught.value.maybe_applied


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.CUT_HEAD])
def test_a_get_that_is_cut_before_an_answer_is_repeated_once(fault: Fault) -> None:
    with FakeServer() as server:
        server.on("GET", "/api/x", Answer(fault=fault), text_answer("ok"))
        assert send(server.url).body == b"ok"
        server.on("GET", "/api/x", Answer(fault=fault))
        with pytest.raises(CutError):
            send(server.url)
        assert len(server.requests) == 4


def test_a_get_whose_answer_is_cut_is_not_repeated() -> None:
    with FakeServer() as server:
        server.otherwise(json_answer([1, 2, 3], fault=Fault.CUT_BODY))
        with pytest.raises(CutError):
            send(server.url)
        assert len(server.requests) == 1


#: Requests whose URL has the word "timeout" in it: the HTTP library calls each of their faults a timeout.
POLLS = [
    {"path": "/tasks/poll/batch/greet", "query": {"workerid": "w", "count": 1, "timeout": 100}},
    {"path": "/tasks/poll/batch/timeout"},
]


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_that_finds_no_server_says_why_whatever_its_url_says(poll: dict[str, Any]) -> None:
    with pytest.raises(ConnectError, match="connection refused"):
        send(f"http://127.0.0.1:{refused_port()}/api", **poll)
    with pytest.raises(ConnectError, match="host name does not resolve"):
        send("http://no-such-host.invalid/api", **poll)


@pytest.mark.parametrize("poll", POLLS)
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.CUT_HEAD])
def test_a_poll_that_is_cut_before_an_answer_is_repeated_once(fault: Fault, poll: dict[str, Any]) -> None:
    with FakeServer() as server:
        server.on("GET", f"/api{poll['path']}", Answer(fault=fault), json_answer([]))
        assert send(server.url, **poll).body == b"[]"
        server.on("GET", f"/api{poll['path']}", Answer(fault=fault))
        with pytest.raises(CutError):
            send(server.url, **poll)
        assert len(server.requests) == 4


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_whose_answer_is_cut_is_not_repeated(poll: dict[str, Any]) -> None:
    with FakeServer() as server:
        server.otherwise(json_answer([1, 2, 3], fault=Fault.CUT_BODY))
        with pytest.raises(CutError):
            send(server.url, **poll)
        assert len(server.requests) == 1


@pytest.mark.parametrize("poll", POLLS)
def test_a_poll_that_is_late_is_a_timeout_and_is_not_repeated(poll: dict[str, Any]) -> None:
    with FakeServer() as server:
        server.otherwise(Answer(fault=Fault.SILENCE))
        with pytest.raises(TimeoutExceededError, match=r"no answer within 0\.1 s"):
            send(server.url, timeout=0.1, **poll)
        assert len(server.requests) == 1


def test_no_answer_in_time_is_a_timeout_of_the_request_or_of_the_configuration() -> None:
    with FakeServer() as server:
        server.otherwise(Answer(fault=Fault.SILENCE))
        with pytest.raises(TimeoutExceededError, match=r"no answer within 0\.2 s"):
            send(server.url, timeout=0.2)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
            send(server.url, request_timeout=0.1)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_what_is_not_http_is_an_answer_error(raw: bytes) -> None:
    with FakeServer() as server:
        server.otherwise(Answer(raw=raw))
        with pytest.raises(AnswerError):
            send(server.url, "POST", body=b"{}")
        with pytest.raises(AnswerError):
            send(server.url, path="/tasks/poll/batch/timeout", query={"timeout": 100})


@pytest.mark.parametrize("compressed", [False, True])
def test_S11_an_answer_above_64_mb_is_refused(compressed: bool) -> None:
    body = b"[" + b" " * (65 * 1024 * 1024) + b"]"
    answer = (
        Answer(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"}) if compressed else Answer(body=body)
    )
    with FakeServer() as server:
        server.otherwise(answer)
        with pytest.raises(AnswerError, match="larger than 64 MB"):
            send(server.url)


def test_every_error_of_the_http_library_has_a_meaning() -> None:
    expected = {
        "PyreqwestError": CutError,
        "DetailedPyreqwestError": CutError,
        "RequestError": CutError,
        "StatusError": AnswerError,
        "RedirectError": AnswerError,
        "DecodeError": AnswerError,
        "BodyDecodeError": AnswerError,
        "JSONDecodeError": AnswerError,
        "TransportError": CutError,
        "RequestTimeoutError": TimeoutExceededError,
        "NetworkError": CutError,
        "ConnectTimeoutError": TimeoutExceededError,
        "ReadTimeoutError": TimeoutExceededError,
        "WriteTimeoutError": TimeoutExceededError,
        "PoolTimeoutError": ConnectError,
        "ConnectError": CutError,
        "ReadError": CutError,
        "WriteError": CutError,
        "ClientClosedError": CutError,
        "BuilderError": ConfigError,
        "RequestPanicError": CutError,
    }
    details = {"causes": None, "doc": "", "pos": 0}
    found = {}
    for name, kind in vars(http_errors).items():
        if isinstance(kind, type) and issubclass(kind, http_errors.PyreqwestError):
            error = kind("boom") if kind is http_errors.PyreqwestError else kind("boom", details)
            found[name], cause = classified(error)
            assert cause == "boom"
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "causes", "expected"),
    [
        (http_errors.ConnectError, ["client error (Connect)", "Connection refused (os error 111)"], ConnectError),
        (http_errors.ConnectTimeoutError, ["client error (Connect)", "operation timed out"], ConnectError),
        (http_errors.ConnectError, ["client error (SendRequest)", "connection error"], CutError),
        (http_errors.BodyDecodeError, ["error reading a body from connection", "end of file"], CutError),
        (http_errors.ConnectError, ["connection error", "received fatal alert: CertificateRequired"], ConnectError),
        (http_errors.ReadTimeoutError, ["request or response body error", "operation timed out"], TimeoutExceededError),
        (http_errors.WriteTimeoutError, ["client error (SendRequest)", "broken pipe"], CutError),
        (
            http_errors.ConnectTimeoutError,
            ["client error (Connect)", "Connection refused (os error 111)"],
            ConnectError,
        ),
    ],
)
def test_the_chain_of_causes_tells_whether_a_request_was_sent(
    kind: type[http_errors.RequestError], causes: list[str], expected: type[PodiumError]
) -> None:
    error = kind("trouble", {"causes": [{"message": text} for text in ["error sending request for url (x)", *causes]]})
    assert classified(error)[0] is expected


# --- connections ---------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_and_left_when_the_server_says_close() -> None:
    answered = 0

    def answer(_: object) -> Answer:
        nonlocal answered
        answered += 1
        return text_answer("ok", close=answered % 100 == 0)  # as the real server does

    with FakeServer() as server:
        server.otherwise(answer)
        send(server.url, "POST", body=b"{}", times=250)
        assert [request.connection for request in server.requests] == [1] * 100 + [2] * 100 + [3] * 50


@pytest.mark.parametrize("is_loop_busy", [False, True])
def test_a_connection_that_was_closed_while_idle_is_noticed_before_the_next_post(*, is_loop_busy: bool) -> None:
    async def work(server: FakeServer) -> None:
        transport = Transport(Configuration(server_api_url=server.url))
        for _ in range(20):
            await transport.request("POST", "/x", body=b"{}")
            if is_loop_busy:
                server.close_connections(wait=False)
            else:
                await asyncio.to_thread(server.close_connections)
        await transport.aclose()

    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        asyncio.run(work(server))
        assert len(server.requests) == 20


def test_p7_a_cut_update_leaves_the_poll_in_flight_alone() -> None:
    async def work(server: FakeServer, gate: Gate) -> bytes:
        transport = Transport(Configuration(server_api_url=server.url))
        poll = asyncio.create_task(transport.request("GET", "/poll"))
        await asyncio.to_thread(server.wait_for, 1, "/api/poll")
        for fault_path in ("/cut", "/reset", "/silent"):
            with pytest.raises(TransportError):
                await transport.request("POST", fault_path, body=b"{}", timeout=0.2)
        gate.open()
        return (await poll).body

    gate = Gate()
    with FakeServer() as server:
        server.on("GET", "/api/poll", json_answer(["the task"], gate=gate))
        server.on("POST", "/api/cut", Answer(fault=Fault.CUT))
        server.on("POST", "/api/reset", Answer(fault=Fault.RESET))
        server.on("POST", "/api/silent", Answer(fault=Fault.SILENCE))
        assert asyncio.run(work(server, gate)) == b'["the task"]'
        assert len(server.to("/api/poll")) == 1


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    async def work(server: FakeServer, gate: Gate) -> bytes:
        transport = Transport(Configuration(server_api_url=server.url))
        doomed = asyncio.create_task(transport.request("GET", "/doomed"))
        kept = asyncio.create_task(transport.request("GET", "/kept"))
        await asyncio.to_thread(server.wait_for, 2)
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        gate.open()
        return (await kept).body

    gate = Gate()
    with FakeServer() as server:
        server.otherwise(text_answer("ok", gate=gate))
        assert asyncio.run(work(server, gate)) == b"ok"


def test_one_transport_serves_several_event_loops() -> None:
    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        transport = Transport(Configuration(server_api_url=server.url))
        for _ in range(3):
            assert asyncio.run(transport.request("GET", "/x")).body == b"ok"
        asyncio.run(transport.aclose())
        assert server.connections == 3  # a connection belongs to its loop, and ends with it
        with pytest.raises(ConnectError, match="closed"):
            asyncio.run(transport.request("GET", "/x"))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closing_ends_requests_under_way(method: str) -> None:
    async def work(server: FakeServer) -> None:
        transport = Transport(Configuration(server_api_url=server.url))
        request = asyncio.create_task(transport.request(method, "/x", query={"timeout": 100}))
        await asyncio.to_thread(server.wait_for, 1)
        await transport.aclose()
        with pytest.raises(CutError):
            await request

    with FakeServer() as server:
        server.otherwise(Answer(fault=Fault.SILENCE))
        asyncio.run(work(server))


# --- what is seen of it --------------------------------------------------------------------------------------------


def test_the_hook_sees_every_request_with_its_template() -> None:
    seen: list[tuple[str, str, int]] = []
    port = refused_port()

    async def work(url: str, template: str | None) -> None:
        transport = Transport(
            Configuration(server_api_url=url),
            on_request=lambda method, path, status, _: seen.append((method, path, status)),
        )
        await transport.request("GET", "/tasks/1", template=template)

    with FakeServer() as server:
        server.on("GET", "/api/tasks/1", text_answer("ok"), error_answer(404, "gone"))
        asyncio.run(work(server.url, "/tasks/{taskId}"))
        with pytest.raises(NotFoundError):
            asyncio.run(work(server.url, None))
    with pytest.raises(ConnectError):
        asyncio.run(work(f"http://127.0.0.1:{port}/api", None))
    assert seen == [("GET", "/tasks/{taskId}", 200), ("GET", "/tasks/1", 404), ("GET", "/tasks/1", 0)]


def test_S05_payloads_and_url_credentials_show_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    with FakeServer() as server:
        server.otherwise(Answer(status=500, body=b"broken", headers={"Set-Cookie": "planted-cookie"}))
        url = server.url.replace("http://", "http://user:planted-pw@")
        configuration = Configuration(server_api_url=url, proxy="http://me:planted-proxy@127.0.0.1:1")
        shown += [repr(configuration), str(configuration), repr(Transport(configuration))]
        for target in (url, f"http://user:planted-pw@127.0.0.1:{refused_port()}/api"):
            with pytest.raises(PodiumError) as caught:
                send(target, "POST", body=b"planted-output", query={"q": "planted-query"})
            shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert "planted" not in "".join(shown) + caplog.text


# --- polls, element by element -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b'[{"a":1}, {"b":[2]}]', [b'{"a":1}', b'{"b":[2]}']),
        (b'[{"a":1},{"x":nope}]', [b'{"a":1}', b'{"x":nope}']),
        (b'[{"s":"],}\\""},{"t":' + b"[" * 5000 + b"]" * 5000 + b"}]", None),
        (b'[1,"a]', [b"1", b'"a']),
        (b'[{"n":' + b"9" * 5000 + b'},{"a":1}]', [b'{"n":' + b"9" * 5000 + b"}", b'{"a":1}']),
    ],
)
def test_S11_a_bad_element_does_not_take_its_neighbours_along(body: bytes, elements: list[bytes] | None) -> None:
    found = elements_of(body)
    if elements is None:
        assert (len(found), found[0]) == (2, b'{"s":"],}\\""}')
    else:
        assert found == elements


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"<html>", b'[{"a":1}', b'[{"a":1}}]', b"[1]]", b"[1],[2]"])
def test_what_is_no_array_is_an_answer_error(body: bytes) -> None:
    with pytest.raises(AnswerError):
        elements_of(body)
