"""What holds for every endpoint: health, content types, the shape of errors."""

from conformance.http import Http
from conformance.stage import Stage, unique


def test_health_is_outside_the_api_prefix(stage: Stage) -> None:
    answer = Http(stage.url.removesuffix("/api")).get("/health")
    assert answer.status == 200
    assert answer.json["healthy"] is True


def test_version_is_plain_text(stage: Stage) -> None:
    answer = stage.get("/version")
    assert answer.status == 200
    assert answer.content_type is not None
    assert answer.content_type.startswith("text/plain")
    assert answer.text[0].isdigit()


def test_error_body_has_status_message_and_retryable(stage: Stage) -> None:
    answer = stage.get(f"/metadata/taskdefs/{unique('none')}")
    assert answer.status == 404
    assert answer.content_type is not None
    assert answer.content_type.startswith("application/json")
    assert answer.json["status"] == 404
    assert isinstance(answer.json["message"], str)
    assert answer.json["retryable"] is False


def test_void_endpoints_answer_an_empty_body_without_content_type(stage: Stage) -> None:
    answer = stage.post("/metadata/taskdefs", [{"name": unique("task")}])
    assert (answer.status, answer.body, answer.content_type) == (200, b"", None)


def test_malformed_json_is_500_and_not_retryable(stage: Stage) -> None:
    answer = stage.post("/tasks", b"{not json")
    assert answer.status == 500
    assert answer.message.startswith("JSON parse error")
    assert answer.json["retryable"] is False


def test_missing_body_is_500(stage: Stage) -> None:
    answer = stage.post("/tasks")
    assert answer.status == 500
    assert answer.message.startswith("Required request body is missing")


def test_unknown_json_fields_are_ignored(stage: Stage) -> None:
    name = stage.define_task(notAFieldOfConductor={"x": 1})
    assert "notAFieldOfConductor" not in stage.get(f"/metadata/taskdefs/{name}").json


def test_body_that_is_not_json_by_its_content_type_is_500(stage: Stage) -> None:
    answer = stage.call("POST", "/tasks", b"{}", content_type="text/plain")
    assert answer.status == 500
    assert answer.message.startswith("Content-Type")


def test_open_server_has_no_token_endpoint(stage: Stage) -> None:
    assert stage.post("/token", {"keyId": "a", "keySecret": "b"}).status == 404


def test_unknown_endpoint_is_404(stage: Stage) -> None:
    assert stage.get("/no/such/endpoint").status == 404
