"""What is remembered of heads of requests changes none of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podium.call import Call, Heads

URL = "http://host:8080/api"
calls = st.builds(
    lambda method, path, query, body, content_type, is_fixed: Call(
        method, path, query, body, content_type, 1.0, path if is_fixed else "/template"
    ),
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(["/tasks", "/tasks/update-v2", "/workflow"]),
    st.sampled_from([None, {}, {"a": 1}]),
    st.sampled_from([None, b"", b"{}", b"{ }"]),
    st.sampled_from(["application/json", "text/plain"]),
    st.booleans(),
)


@given(st.lists(st.tuples(calls, st.sampled_from([None, "one", "other"])), max_size=30))
def test_a_head_does_not_depend_on_those_before_it(asked: list[tuple[Call, str | None]]) -> None:
    heads = Heads(URL)
    for call, token in asked:
        assert heads.of(call, token) == Heads(URL).of(call, token)


def test_a_head_says_what_is_asked() -> None:
    heads = Heads(URL)
    call = Call("POST", "/tasks", None, b"{}", "application/json", 1.0, "/tasks")
    for token in ("a", "b", "a"):
        assert heads.of(call, token) == (
            b"POST /api/tasks HTTP/1.1\r\nHost: host:8080\r\nUser-Agent: podium\r\nAccept: */*\r\n"
            b"Accept-Encoding: gzip\r\nX-Authorization: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n" % token.encode()
        )
    for method, end in (("GET", b"\r\n\r\n"), ("DELETE", b"\r\nContent-Length: 0\r\n\r\n")):
        assert heads.of(call._replace(method=method, body=None), None).endswith(b"Accept-Encoding: gzip" + end)


def test_old_tokens_are_not_kept_for_ever() -> None:
    heads = Heads(URL)
    call = Call("POST", "/tasks", None, b"", "application/json", 1.0, "/tasks")
    for number in range(1000):
        heads.of(call, f"token-{number}")
    assert len(heads._known) <= 100
