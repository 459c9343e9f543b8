"""The transport and processes: forks, fresh children, the end of a program, the weight of an import."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from fake_server import Answer, FakeServer, Fault, Gate, Request, json_answer, text_answer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SECONDS = 20


def python(program: str | Path, *arguments: str) -> str:
    """Run a program (code or a file) in a fresh interpreter, warnings as errors; return what it prints."""
    source = ["-c", textwrap.dedent(program)] if isinstance(program, str) else [str(program)]
    command = [sys.executable, "-W", "error", *source, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


FORK = """
    import asyncio, os, sys
    from podium.config import AuthenticationSettings, Configuration
    from podium.errors import ConfigError
    from podium.sync import Client
    from podium.transport import Transport

    credentials = AuthenticationSettings(key_id="key", key_secret="secret")
    proxy = sys.argv[1].removesuffix("/api") if "proxy" in sys.argv else None
    configuration = Configuration(server_api_url=sys.argv[1], authentication_settings=credentials, proxy=proxy)
    used = Transport(configuration)
    if "use" in sys.argv:
        asyncio.run(used.request("POST", "/workflow"))
    if (child := os.fork()) == 0:
        calls = [
            lambda: asyncio.run(used.request("POST", "/workflow")),
            lambda: asyncio.run(Transport(configuration).request("POST", "/workflow")),
            lambda: Client(configuration).start_workflow("w"),
        ]
        for call in calls:
            try:
                print(call())
            except ConfigError as error:
                print("ConfigError", "forkserver" in str(error), "spawn" in str(error))
        asyncio.run(used.aclose())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    if "use" in sys.argv:
        asyncio.run(used.request("POST", "/workflow"))
"""


def test_a_child_forked_after_use_has_connections_of_its_own_and_leaves_the_parent_working() -> None:
    with FakeServer() as server:
        server.on("POST", "/api/token", text_answer('{"token": "t"}'))
        server.otherwise(text_answer("id"))
        assert python(FORK, server.url, "use").splitlines()[-1] == "id"
        requests = server.to("/api/workflow")
        assert len(requests) == 5
        assert not {requests[0].connection, requests[4].connection} & {it.connection for it in requests[1:4]}


def test_a_child_forked_after_use_of_the_http_library_gets_a_clear_error_and_leaves_the_parent_working() -> None:
    with FakeServer() as server:
        server.on("POST", "/api/token", text_answer('{"token": "t"}'))
        server.otherwise(text_answer("id"))
        assert python(FORK, server.url, "use", "proxy") == "ConfigError True True\n" * 3
        assert len(server.to("/api/workflow")) == 2


def test_a_child_forked_during_a_login_makes_its_own() -> None:
    """It would wait for the parent's thread, which it does not have."""
    code = """
        import asyncio, os, sys, threading, warnings
        from podium.config import AuthenticationSettings, Configuration
        from podium.transport import Transport

        warnings.simplefilter("ignore", DeprecationWarning)  # Python knows what forks and threads do to each other
        credentials = AuthenticationSettings(key_id="key", key_secret="secret")
        transport = Transport(Configuration(server_api_url=sys.argv[1], authentication_settings=credentials))

        def work():
            asyncio.run(transport.request("POST", "/workflow"))

        thread = threading.Thread(target=work)
        thread.start()
        while transport._tokens._attempt is None:
            pass
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
    """
    gate = Gate()

    def workflow(request: Request) -> Answer:
        if request.headers["x-authorization"] == "early":
            gate.open()
        return text_answer("id")

    with FakeServer() as server:
        server.on("POST", "/api/token", json_answer({"token": "late"}, gate=gate), json_answer({"token": "early"}))
        server.on("POST", "/api/workflow", workflow)
        python(code, server.url)
        tokens = [request.headers["x-authorization"] for request in server.to("/api/workflow")]
        assert tokens == ["early", "late"]


def test_a_child_forked_before_use_works() -> None:
    with FakeServer() as server:
        server.on("POST", "/api/token", text_answer('{"token": "t"}'))
        server.otherwise(text_answer("id"))
        assert python(FORK, server.url).splitlines()[-1] == "id"
        assert len(server.to("/api/workflow")) == 3


CHILDREN = """
    import multiprocessing, sys
    from podium.config import Configuration
    from podium.sync import Client

    def start_workflow(url):
        with Client(Configuration(server_api_url=url)) as client:
            return client.start_workflow("w")

    if __name__ == "__main__":
        url, method = sys.argv[1:]
        print(start_workflow(url))  # the parent uses its client, too
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(start_workflow, [url] * 2))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_children_of_a_fork_server_and_spawned_ones_just_work(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # a file, because children import what they run
    program.write_text(textwrap.dedent(CHILDREN))
    with FakeServer() as server:
        server.otherwise(text_answer("id"))
        assert python(program, server.url, method) == "id\n['id', 'id']\n"


def test_a_program_ends_at_once_with_clients_open() -> None:
    code = """
        import sys
        from podium.config import Configuration
        from podium.sync import Client

        client = Client(Configuration(server_api_url=sys.argv[1]))
        print(client.start_workflow("w"))
    """
    with FakeServer() as server:
        server.otherwise(text_answer("id"))
        assert python(code, server.url) == "id\n"


def test_a_client_still_works_when_its_program_ends() -> None:
    """No thread can look up a host name by then: asyncio's way refuses."""
    code = """
        import atexit, sys
        from podium.config import Configuration
        from podium.sync import Client

        client = Client(Configuration(server_api_url=sys.argv[1]))
        atexit.register(client.terminate_workflow, client.start_workflow("w"))
    """
    with FakeServer() as server:
        server.otherwise(text_answer("id", close=True))
        assert python(code, server.url.replace("127.0.0.1", "localhost")) == ""
        assert [request.method for request in server.requests] == ["POST", "DELETE"]


def test_a_program_ends_cleanly_right_after_its_last_request() -> None:
    """The HTTP library's thread, caught by the interpreter's end, aborts the process: it did in every tenth run."""
    code = """
        import asyncio, sys
        from podium.client import AsyncClient
        from podium.config import Configuration

        client = AsyncClient(Configuration(server_api_url=sys.argv[1]))

        async def work():
            await asyncio.gather(*(client.start_workflow("w") for _ in range(50)))

        asyncio.run(work())
    """
    with FakeServer() as server:
        server.otherwise(text_answer("id"))
        for _ in range(10):
            assert python(code, server.url) == ""


def test_a_program_ends_cleanly_while_a_daemon_thread_waits_for_an_answer() -> None:
    code = """
        import sys, threading
        from podium.config import Configuration
        from podium.errors import TransportError
        from podium.sync import Client

        def poll():
            with Client(Configuration(server_api_url=sys.argv[1])) as client:
                sent.set()
                try:
                    client.start_workflow("w")
                except TransportError as error:
                    sys.stdout.write(f"{error}\\n")
                    client.start_workflow("w")

        threading.excepthook = lambda failure: sys.stdout.write(f"{failure.exc_value}\\n")  # one piece, or nothing
        sent = threading.Event()
        threading.Thread(target=poll, daemon=True).start()
        sent.wait()
        with Client(Configuration(server_api_url=sys.argv[1])) as client:
            while not client.get_task_defs():  # the server says when it has the thread's request
                pass
    """
    with FakeServer() as server:
        server.on("POST", "/api/workflow", Answer(fault=Fault.SILENCE))
        server.on("GET", "/api/metadata/taskdefs", lambda _: json_answer([{}] * len(server.to("/api/workflow"))))
        assert python(code, server.url) in {
            "",  # the interpreter was faster than the thread
            "the program ended during the request\n",
            "the program ended during the request\nthe program is ending\n",
        }


def test_importing_the_transport_starts_nothing_and_loads_no_heavy_modules() -> None:
    code = """
        import sys, threading
        import podium.transport
        heavy = {"http.client", "urllib.request", "email.utils", "pydantic", "uvloop", "rich", "multiprocessing"}
        print(sorted(heavy & set(sys.modules)), threading.active_count())
    """
    assert python(code) == "[] 1\n"


def test_defect_33_making_a_result_talks_to_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
        import sys
        from podium.config import Configuration
        from podium.models import TaskResult
        configuration = Configuration()
        TaskResult.complete({"value": 1}).to_dict()
        print(configuration.host == sys.argv[1], "podium.transport" in sys.modules)
    """
    with FakeServer() as server:
        monkeypatch.setenv("CONDUCTOR_SERVER_URL", server.url)
        monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
        monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "secret")
        assert python(code, server.url) == "True False\n"
        assert not server.connections
