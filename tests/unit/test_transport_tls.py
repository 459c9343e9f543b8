"""TLS and proxies: every setting works, and a refusal names its cause."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

from certificates import Authority, server_context
from fake_server import DEADLINE, Answer, FakeServer, text_answer
from podium.config import AuthenticationSettings, Configuration, proxy_for
from podium.errors import ConfigError, ConnectError, CutError
from podium.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

    from podium.answers import Response
    from podium.call import Query


def send(url: str, method: str = "POST", query: Query | None = None, **settings: Any) -> Response:
    async def work() -> Response:
        transport = Transport(Configuration(server_api_url=url, **settings))
        try:
            return await transport.request(method, "/x", query=query)
        finally:
            await transport.aclose()

    return asyncio.run(work())


def serve(tls: ssl.SSLContext | None = None) -> FakeServer:
    server = FakeServer(tls=tls)
    server.otherwise(text_answer("ok"))
    return server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "other authority")


def test_defect_32_S02_ssl_ca_cert_is_trusted(authority: Authority) -> None:
    with serve(server_context(authority.issue())) as server:
        assert send(server.url, ssl_ca_cert=authority.cert).status == 200


def test_a_file_of_several_authorities_is_trusted_as_a_whole(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    with open(stranger.cert) as one, open(authority.cert) as two:  # noqa: PTH123 - the names are strings
        bundle.write_text(one.read() + two.read())
    with serve(server_context(authority.issue())) as server:
        assert send(server.url, ssl_ca_cert=str(bundle)).status == 200


def test_B23_an_unknown_authority_is_refused_with_the_fix(authority: Authority) -> None:
    with serve(server_context(authority.issue())) as server:
        with pytest.raises(ConnectError, match=r"no trusted authority .*ssl_ca_cert"):
            send(server.url)
        with pytest.raises(ConnectError, match="no trusted authority"):
            send(server.url, "GET", {"timeout": 100})
        assert not server.requests


def test_B23_an_expired_certificate_is_refused(authority: Authority) -> None:
    with serve(server_context(authority.issue(expired=True))) as server:
        with pytest.raises(ConnectError, match=r"certificate is not valid: .*expired"):
            send(server.url, ssl_ca_cert=authority.cert)
        assert not server.requests


def test_B23_a_certificate_of_another_host_is_refused(authority: Authority) -> None:
    with serve(server_context(authority.issue("example.org"))) as server:
        with pytest.raises(ConnectError, match=r"certificate is not valid: .*not valid for name"):
            send(server.url, ssl_ca_cert=authority.cert)
        assert not server.requests


def test_S02_B23_a_self_signed_certificate_is_refused(authority: Authority) -> None:
    with serve(server_context(authority.issue(self_signed=True))) as server:
        with pytest.raises(ConnectError, match=r"no trusted authority .*ssl_ca_cert"):
            send(server.url)
        assert not server.requests


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_S02_B23_tls_below_1_2_is_refused(authority: Authority, version: ssl.TLSVersion) -> None:
    old = server_context(authority.issue())
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    willing = ssl.create_default_context(cafile=authority.cert)
    willing.set_ciphers("ALL:@SECLEVEL=0")
    willing.minimum_version = version
    with serve(old) as server:
        plain = socket.create_connection(("127.0.0.1", server.port))
        with willing.wrap_socket(plain, server_hostname="127.0.0.1") as talk:
            assert talk.version() in {"TLSv1", "TLSv1.1"}  # this is what the server speaks, if one lets it
        with pytest.raises(ConnectError, match=r"refused the TLS connection: .*ProtocolVersion|wrong TLS version"):
            send(server.url, ssl_ca_cert=authority.cert)
        assert not server.requests


def test_defect_32_S02_verify_ssl_false_accepts_any_certificate_and_warns(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(server_context(authority.issue("example.org", expired=True))) as server:
        assert send(server.url, verify_ssl=False).status == 200
        assert send(server.url, verify_ssl=False).status == 200
    assert ["verify_ssl is False" in message for name, _, message in caplog.record_tuples if name != "asyncio"] == [
        True
    ]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_defect_32_S02_a_client_certificate_is_presented(authority: Authority, version: ssl.TLSVersion) -> None:
    demanding = server_context(authority.issue(), client_authority=authority)
    demanding.maximum_version = version
    mine = authority.issue("client", client=True)
    with serve(demanding) as server:
        settings: dict[str, Any] = {"ssl_ca_cert": authority.cert, "cert_file": mine.cert, "key_file": mine.key}
        assert send(server.url, **settings).status == 200


def refuse_handshake(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Take one connection, let its handshake fail, send the alert, and close only when the client has read it.

    A server that closes at once may reset the connection and so destroy its own alert.
    """
    arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arrived, leaving, server_side=True)
    connection, _ = listener.accept()
    with connection:
        try:
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    connection.sendall(leaving.read())
                    arrived.write(connection.recv(65536))
        except ssl.SSLError:
            connection.sendall(leaving.read())
            while connection.recv(65536):
                pass


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        (ssl.TLSVersion.TLSv1_2, "the server refused the TLS connection: received fatal alert: HandshakeFailure"),
        (ssl.TLSVersion.TLSv1_3, r"the server wants a client certificate \(set cert_file and key_file\)"),
    ],
)
def test_a_missing_client_certificate_is_named(authority: Authority, version: ssl.TLSVersion, complaint: str) -> None:
    demanding = server_context(authority.issue(), client_authority=authority)
    demanding.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=refuse_handshake, args=(listener, demanding))
        server.start()
        with pytest.raises(ConnectError, match=complaint):
            send(f"https://127.0.0.1:{listener.getsockname()[1]}/api", ssl_ca_cert=authority.cert)
        server.join(DEADLINE)


def test_pem_files_without_what_they_should_hold_are_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    one, two = authority.issue("one", client=True), authority.issue("two", client=True)
    with pytest.raises(ConfigError, match="ssl_ca_cert"):
        Configuration(ssl_ca_cert=str(junk))
    with pytest.raises(ConfigError, match="cert_file"):
        Configuration(cert_file=str(junk), key_file=one.key)
    with pytest.raises(ConfigError, match="key"):
        Configuration(cert_file=one.cert, key_file=two.key)


def test_B23_a_ca_certificate_in_the_servers_place_is_refused_with_the_fix(authority: Authority) -> None:
    with serve(server_context(authority.own)) as server:
        with pytest.raises(
            ConnectError, match="the server shows a CA certificate as its own: issue a server certificate"
        ):
            send(server.url, ssl_ca_cert=authority.cert)
        assert not server.requests


def test_http_to_a_tls_server_fails(authority: Authority) -> None:
    with serve(server_context(authority.issue())) as server, pytest.raises(CutError):
        send(server.url.replace("https:", "http:"))


def test_https_to_a_plain_server_says_which_url_to_use() -> None:
    def answer_in_plain() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while connection.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer_in_plain)
        server.start()
        with pytest.raises(ConnectError, match="the server does not speak TLS: use http://"):
            send(f"https://127.0.0.1:{listener.getsockname()[1]}/api")
        server.join(DEADLINE)


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_S03_required_tls_refuses_plain_http_to_another_machine(
    monkeypatch: pytest.MonkeyPatch, value: str, *, refused: bool
) -> None:
    monkeypatch.setenv("CONDUCTOR_REQUIRE_TLS", value)
    for url in ("https://conductor.example/api", "http://127.0.0.1:1/api", "http://localhost/api", "http://[::1]/api"):
        assert Configuration(server_api_url=url).require_tls is refused
    if refused:
        with pytest.raises(ConfigError, match="TLS is required"):
            Configuration(server_api_url="http://conductor.example/api")
        Configuration(server_api_url="http://conductor.example/api", require_tls=False)


def test_S03_a_flag_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_REQUIRE_TLS", "perhaps")
    with pytest.raises(ConfigError, match="CONDUCTOR_REQUIRE_TLS='perhaps': expected one of true"):
        Configuration()


def test_a_system_without_authorities_can_use_plain_http_and_learns_what_https_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serve() as server:
        assert send(server.url).status == 200
    with serve(server_context(authority.issue())) as server:
        with pytest.raises(ConfigError, match="CA certificates or set ssl_ca_cert"):
            send(server.url)
        assert send(server.url, ssl_ca_cert=authority.cert).status == 200


# --- proxies -------------------------------------------------------------------------------------------------------


class TunnelProxy:
    """A proxy for CONNECT only: it counts tunnels and remembers the credentials."""

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        self.credentials: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed: the test is over
            threading.Thread(target=self._tunnel, args=(connection,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        lines = head.decode().split("\r\n")
        target = lines[0].split(" ")[1]
        self.tunnels.append(target)
        self.credentials += [line.split(": ")[1] for line in lines if line.lower().startswith("proxy-authorization")]
        host, _, port = target.rpartition(":")
        with client, socket.create_connection((host, int(port)), DEADLINE) as server:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            other = {client: server, server: client}
            while True:
                for ready in select.select(list(other), [], [], DEADLINE)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    other[ready].sendall(data)


def test_S04_https_goes_through_the_proxy_of_the_setting_with_its_credentials(authority: Authority) -> None:
    with TunnelProxy() as proxy, serve(server_context(authority.issue())) as server:
        through = proxy.url.replace("http://", "http://user:p%40ss@")
        assert send(server.url, ssl_ca_cert=authority.cert, proxy=through).status == 200
        assert proxy.tunnels == [f"127.0.0.1:{server.port}"]
        assert proxy.credentials == ["Basic dXNlcjpwQHNz"]
        assert "proxy-authorization" not in server.requests[0].headers


def test_S04_http_goes_through_the_proxy_of_the_setting() -> None:
    with serve() as proxy:
        assert send("http://conductor.example/api", proxy=proxy.origin).status == 200
        assert proxy.requests[0].target == "http://conductor.example/api/x"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_S04_https_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, authority: Authority, name: str) -> None:
    with TunnelProxy() as proxy, serve(server_context(authority.issue())) as server:
        monkeypatch.setenv(name, proxy.url)
        assert send(server.url, ssl_ca_cert=authority.cert).status == 200
        assert len(proxy.tunnels) == 1
        for exempt in ("127.0.0.1", "*"):
            monkeypatch.setenv("NO_PROXY", exempt)
            assert send(server.url, ssl_ca_cert=authority.cert).status == 200
        assert len(proxy.tunnels) == 1


def test_S04_http_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        assert send("http://conductor.example/api").status == 200
        monkeypatch.setenv("NO_PROXY", ".example")
        with pytest.raises(ConnectError, match="does not resolve"):
            send("http://conductor.example/api")
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("url", "exempt", "direct"),
    [
        ("https://api.corp.example/api", "corp.example", True),
        ("https://api.corp.example/api", ".corp.example", True),
        ("https://api.corp.example/api", "*.corp.example", True),
        ("https://api.corp.example/api", "other, API.corp.example", True),
        ("https://api.corp.example:8443/api", "api.corp.example:8443", True),
        ("https://api.corp.example/api", "api.corp.example:8443", False),
        ("https://notcorp.example/api", "corp.example", False),
        ("https://10.1.2.3/api", "10.0.0.0/8", True),
        ("https://11.1.2.3/api", "10.0.0.0/8", False),
        ("https://[fd00::1]/api", "fd00::/8", True),
        ("https://10.1.2.3/api", "*", True),
        ("https://api.corp.example/api", "10.0.0.0/8", False),
        ("https://api.corp.example/api", "", False),
    ],
)
def test_S04_no_proxy_names_hosts_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, url: str, exempt: str, *, direct: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert proxy_for(Configuration(server_api_url=url)) == (None if direct else "http://proxy.example:3128")


def test_S04_S05_a_proxy_that_is_down_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as gone:
        pass
    proxy = gone.origin.replace("http://", "http://user:planted@")
    for url in ("http://conductor.example/api", "https://conductor.example/api"):
        with pytest.raises(
            ConnectError, match=rf"through the proxy http://\*\*\*@127.0.0.1:{gone.port}: connection refused"
        ):
            send(url, proxy=proxy)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(
        ConnectError, match=rf"through the proxy http://\*\*\*@127.0.0.1:{gone.port}: connection refused"
    ):
        send("http://conductor.example/api")


def test_a_proxy_that_refuses_is_named() -> None:
    with FakeServer() as proxy:
        proxy.otherwise(Answer(status=407))
        for url in ("http://conductor.example/api", "https://conductor.example/api"):
            with pytest.raises(ConnectError, match="the proxy wants other credentials"):
                send(url, proxy=proxy.origin)
        proxy.otherwise(Answer(status=502))
        with pytest.raises(ConnectError, match="the proxy could not connect"):
            send("https://conductor.example/api", proxy=proxy.origin)


@pytest.mark.parametrize("proxy", ["", "socks4://x:1", "http://", "ftp://user:planted@x"])
def test_what_is_no_proxy_url_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"Configuration\.proxy") as caught:
        Configuration(proxy=proxy)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("value", ["FTP://planted@x", "http://[::1", "http://proxy:99999", "pro xy:3128"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_variable_that_holds_no_proxy_url_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^{name}: not a proxy URL: .*expected e\.g\.") as caught:
        Transport(Configuration(server_api_url="http://conductor.example/api"))
    assert "planted" not in str(caught.value)
    assert value.removeprefix("FTP://planted@") in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "conductor.example")
    Transport(Configuration(server_api_url="http://conductor.example/api"))


def test_S02_credentials_do_not_go_to_a_server_that_is_not_believed(authority: Authority) -> None:
    with serve(server_context(authority.issue())) as server:
        credentials = AuthenticationSettings(key_id="key", key_secret="secret")
        with pytest.raises(ConnectError, match=r"POST .*/token.*authority"):
            send(server.url, authentication_settings=credentials)
        assert not server.requests
