"""Secrets and payloads of running programs: planted, and looked for in everything that they show."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine_fakes import task_json
from fake_server import Answer, FakeServer, Fault, Request, error_answer, json_answer, type_json
from programs import arguments_of, descendants, environment_of, killed_at_the_end, listeners_of
from rig import until
from scene import reports_to

TESTS = Path(__file__).parent.parent
#: Each planted text begins so, and nothing else does.
MARK = "zplanted"
CREDENTIALS = {"CONDUCTOR_AUTH_KEY": f"{MARK}-key-id", "CONDUCTOR_AUTH_SECRET": f"{MARK}-secret"}

PROGRAM = """
    import json, logging, os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import samples
    from podium import AuthenticationSettings, Configuration, MetricsSettings, TaskHandler, Worker

    def main():
        logging.basicConfig(level=logging.DEBUG)
        configuration = {configuration}
        functions = [samples.returns_input, samples.takes_colour, samples.uses_credentials, samples.shouts]
        workers = [Worker(function.__name__, function, poll_interval=20) for function in functions]
        metrics = MetricsSettings(http_port=0, directory={folder!r})
        with TaskHandler(
            workers, configuration, metrics, scan_for_annotated_workers=False, isolation={isolation!r}
        ) as handler:
            handler.start_processes()
            logging.info("%r %s %r", handler.configuration, handler.configuration.authentication_settings, handler)
            while sys.stdin.readline():
                status = {{"workers": handler.get_worker_status(), "healthy": handler.is_healthy()}}
                print(json.dumps(status | {{"port": handler.metrics_port}}, default=str), flush=True)
            handler.join_processes()

    if __name__ == "__main__":
        main()
"""
FROM_ENVIRONMENT = "Configuration()"
FROM_FILE = "Configuration(authentication_settings=AuthenticationSettings(**json.loads(Path({path!r}).read_text())))"
NOT_HANDED_ON = "Configuration(); [os.environ.pop(name) for name in list(os.environ) if 'CONDUCTOR_AUTH' in name]"


class Program:
    """A running script; ``shown`` is what it showed on its streams, when it has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.shown = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def status(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        status: dict[str, Any] = json.loads(self.process.stdout.readline())
        return status

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=20)
        self.shown += out + err
        assert self.process.returncode == 0, err


@contextmanager
def running(
    folder: Path, url: str, isolation: str = "process", configuration: str = FROM_ENVIRONMENT, **environment: str
) -> Iterator[Program]:
    script = folder / "program.py"
    script.write_text(
        textwrap.dedent(PROGRAM).format(
            tests=str(TESTS), isolation=isolation, folder=str(folder / "metrics"), configuration=configuration
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"CONDUCTOR_SERVER_URL": url} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_the_end(process):
        yield Program(process)


def poll_of(name: str) -> str:
    return f"/api/tasks/poll/batch/{name}"


def given(name: str, **inputs: Any) -> Answer:
    return Answer(body=b"[" + task_json(name, inputData=inputs) + b"]", headers=type_json)


NOTHING = json_answer([])


class Gateway:
    """A server with a login, which sets cookies and goes wrong in many ways."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.logins = 0
        server.on("POST", "/api/token", self.login)
        cut = Answer(body=f'[{{"taskId":"cut","inputData":{{"a":"{MARK}-input'.encode(), headers=type_json)
        lost = Answer(fault=Fault.CUT_BODY, body=f'["{MARK}-input"]'.encode())
        away = Answer(status=307, headers={"Location": f"http://{MARK}:{MARK}@127.0.0.1:1/api?token={MARK}"})
        server.on(
            "GET", poll_of("returns_input"), self.checked(cut), self.checked(lost), self.checked(away),
            self.checked(given("a", value=f"{MARK}-input")), self.checked(NOTHING),
        )  # fmt: skip
        expired = json_answer({"error": "EXPIRED_TOKEN", "message": "expired"}, 401)
        server.on(
            "GET", poll_of("takes_colour"), expired, self.checked(given("b", colour=f"{MARK}-input")),
            self.checked(NOTHING),
        )  # fmt: skip
        for name in ("uses_credentials", "shouts"):
            server.on("GET", poll_of(name), self.checked(NOTHING))
        server.on("POST", "/api/tasks", Answer(fault=Fault.CUT), self.checked(Answer(body=b"id")))
        server.on("POST", "/api/tasks/update-v2", self.checked(Answer(status=204)))

    def login(self, _: Request) -> Answer:
        self.logins += 1
        return json_answer({"token": f"{MARK}-token-{self.logins}"})

    def checked(self, answer: Answer) -> Any:
        def give(request: Request) -> Answer:
            if request.headers.get("x-authorization") != f"{MARK}-token-{self.logins}":
                return error_answer(401, "who are you")
            return Answer(
                status=answer.status, body=answer.body, fault=answer.fault,
                headers={**answer.headers, "Set-Cookie": f"session={MARK}-cookie"},
            )  # fmt: skip

        return give


def fetched(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read().decode()}"


@pytest.mark.parametrize(("isolation", "form"), [("process", "json"), ("thread", "text")])
def test_S05_S06_S14_planted_secrets_and_payloads_show_nowhere(
    server: FakeServer, tmp_path: Path, isolation: str, form: str
) -> None:
    Gateway(server)
    url = server.url.replace("http://", f"http://{MARK}-user:{MARK}-password@")
    logging = {"CONDUCTOR_LOG_LEVEL": "DEBUG", "CONDUCTOR_LOG_FORMAT": form}
    with running(tmp_path, url, isolation, **CREDENTIALS, **logging) as program:
        until(lambda: {report["taskId"] for report in reports_to(server)} == {"a", "b"}, "both reports")
        status = program.status()
        pages = [fetched(status["port"], path) for path in ("/", "/metrics", "/health", f"/{MARK[::-1]}")]
        processes = [program.pid, *descendants(program.pid)]
        arguments = [arguments_of(pid) for pid in processes]
        listeners = [listeners_of(pid) for pid in processes]
        program.end()
    reports = {report["taskId"]: report for report in reports_to(server)}
    assert reports["a"]["outputData"] == {"value": f"{MARK}-input"}
    assert f'got "{MARK}-input"' in reports["b"]["reasonForIncompletion"]  # the server has it, and nobody else
    files = {path.name: path.read_text() for path in (tmp_path / "metrics").iterdir()}
    spooled = [str(path) for path in Path(os.environ["XDG_STATE_HOME"]).rglob("*")]  # what is in them is payload
    assert len(processes) == (6 if isolation == "process" else 1)
    assert files
    assert "DEBUG" in program.shown
    shown = [json.dumps(status), program.shown, *pages, *arguments, *files, *files.values(), *spooled]
    found = [line for text in shown for line in text.splitlines() if MARK in line]
    assert found == []
    assert listeners == [{"0100007F"}] + [set()] * (len(processes) - 1)  # 127.0.0.1, and children listen nowhere


def test_S05_credentials_that_code_gives_are_in_no_process_that_runs_functions(
    server: FakeServer, tmp_path: Path
) -> None:
    Gateway(server)
    server.on("GET", poll_of("uses_credentials"), given("c"), NOTHING)
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"key_id": f"{MARK}-key-id", "key_secret": f"{MARK}-secret"}))
    with running(tmp_path, server.url, configuration=FROM_FILE.format(path=str(keys))) as program:
        assert used_credentials(server) == "none"
        processes = descendants(program.pid)
        assert len(processes) == 5  # the fork server, and a child per worker
        assert MARK not in "".join(environment_of(pid) + arguments_of(pid) for pid in processes)
        program.end()


@pytest.mark.parametrize(
    ("configuration", "seen"), [(FROM_ENVIRONMENT, CREDENTIALS["CONDUCTOR_AUTH_KEY"]), (NOT_HANDED_ON, "none")]
)
def test_S05_credentials_of_the_environment_are_the_functions_too_unless_the_program_removes_them(
    server: FakeServer, tmp_path: Path, configuration: str, seen: str
) -> None:
    Gateway(server)
    server.on("GET", poll_of("uses_credentials"), given("c"), NOTHING)
    with running(tmp_path, server.url, configuration=configuration, **CREDENTIALS) as program:
        assert used_credentials(server) == seen
        in_children = any(MARK in environment_of(pid) for pid in descendants(program.pid))
        assert in_children is (seen != "none")
        program.end()


def used_credentials(server: FakeServer) -> object:
    """What a function saw that makes a Configuration of its own."""

    def seen() -> list[object]:
        return [report["outputData"]["result"] for report in reports_to(server) if report["taskId"] == "c"]

    return until(seen, "the report")[0]


# control characters

EVIL = "\x1b[31mred\x07\r\n2026-01-01 00:00:00,000 ERROR forged: \x9b2J\u202e\u2028"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")


def test_S13_no_text_from_elsewhere_commands_a_terminal_or_forges_a_record(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "shouting.py").write_text(
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        "from podium import Worker, worker_task\nimport samples\n"
        "worker_task('shouts', poll_interval=20)(samples.shouts)\n"
        "worker_task('takes_colour', poll_interval=20)(samples.takes_colour)\n"
    )
    evil_ids = json.dumps([{"taskId": "x" + EVIL, "workflowInstanceId": "w"}]).encode()
    server.on(
        "GET", poll_of("shouts"), error_answer(500, EVIL), Answer(status=502, body=EVIL.encode()),
        Answer(status=302, headers={"Location": "http://a\x1b[31mb/"}), Answer(body=b"[nope" + EVIL.encode() + b"]"),
        Answer(body=evil_ids), given("a", text=EVIL), NOTHING,
    )  # fmt: skip
    server.on("GET", poll_of("takes_colour"), given("b", **{EVIL: EVIL, "colour": {EVIL: 1}}), NOTHING)
    server.on("POST", "/api/tasks", error_answer(400, EVIL), Answer(body=b"id"))
    server.on("POST", "/api/tasks/update-v2", error_answer(400, EVIL), Answer(status=204))
    process = subprocess.Popen(
        [sys.executable, "-m", "podium", "run", "shouting"],
        cwd=tmp_path,
        env=os.environ | {"CONDUCTOR_SERVER_URL": server.url, "CONDUCTOR_LOG_LEVEL": "DEBUG"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: {report["taskId"] for report in reports_to(server)} == {"a", "b"}, "reports")
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    text = err.decode()
    assert out == b""
    assert "forged" in text  # it was there, in one form or another
    assert "a warning of the function" in text
    assert CONTROLS.findall(text) == []
    record = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ (podium|samples|asyncio|root)[.\w]*: |    |$")
    assert [line for line in text.split("\n") if not record.match(line)] == []


def test_S13_errors_of_the_command_line_command_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(f"raise ValueError({EVIL!r})")
    for arguments in (["run", "broken"], ["run", "no\x1b[31msuch"], ["config", "broken"]):
        done = subprocess.run(
            [sys.executable, "-m", "podium", *arguments], cwd=tmp_path, capture_output=True, timeout=30, check=False
        )
        assert done.returncode != 0
        assert done.stderr
        assert not CONTROLS.search((done.stdout + done.stderr).decode())
