"""Starting: addresses, files, signals."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from podium.errors import ConfigError, StartError
from podium.server.serving import EmbeddedServer
from podium.testing import local_server

SERVE = "from podium.server import serve; serve(db={db!r}, ready=lambda url: print(url, flush=True))"


def test_url_is_the_api_on_the_loopback_interface() -> None:
    with local_server() as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url.endswith("/api")


def test_two_servers_side_by_side_and_a_file(tmp_path: Path) -> None:
    with local_server() as one, local_server(db=str(tmp_path / "a.db")) as other:
        assert one.url != other.url
    with local_server(db=str(tmp_path / "a.db")):
        pass


def test_used_port_and_wrong_addresses_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen on"):
        EmbeddedServer(port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="port must be 0 to 65535"):
        EmbeddedServer(port=70_000)
    with pytest.raises(ConfigError, match=r"cannot listen on|not an address"):
        EmbeddedServer(host="203.0.113.1")
    with pytest.raises(ConfigError, match="no such directory"):
        EmbeddedServer(db="/nowhere/at/all.db")


def test_failure_to_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.server.serving._Server.run", lambda *_args, **_fields: 1 / 0)
    with pytest.raises(StartError) as caught, local_server():
        pass
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_any_host_name_when_not_bound_to_loopback() -> None:
    from threading import Thread

    server = EmbeddedServer(host="0.0.0.0")
    port = int(server.url.rsplit(":", 1)[1].partition("/")[0])
    thread = Thread(target=server.run)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/health", headers={"Host": "anything.example"})
    assert b'"healthy":true' in connection.getresponse().read()
    connection.close()
    server.stop()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it(number: signal.Signals, tmp_path: Path) -> None:
    code = SERVE.format(db=str(tmp_path / "a.db"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        process.wait(10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"], "the log of the database was folded into the file"


def test_importing_podium_does_not_import_the_server() -> None:
    code = "import sys, podium, podium.testing; sys.exit(any(name.startswith('podium.server') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
