"""One suite, two servers: podium's embedded one and the real one.

The environment variable PODIUM_TEST_SERVER names a running real server (``http://host:port/api``) to use instead of
starting one. With PODIUM_REQUIRE_REAL_SERVER=1 the real cases fail where they would be skipped.
"""

import os
from collections.abc import Generator, Iterator

import pytest

from conformance.known_differences import KNOWN_DIFFERENCES
from conformance.real_server import RealServer, UnavailableError, start_real_server
from conformance.stage import Server, Stage

#: What the summary says of the real server, set once a test asked for it.
OUTCOME = pytest.StashKey[str]()
REAL_SERVER = pytest.StashKey[RealServer]()

#: The limit holds for the test alone: fetching and starting the server may take longer.
REAL_MARKS = (pytest.mark.real, pytest.mark.timeout(60, func_only=True))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "differs(key): a known difference between the servers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the documented defects of the real server where a test is marked with one."""
    for item in items:
        mark = item.get_closest_marker("differs")
        if mark is None or item.get_closest_marker("real") is None:
            continue
        key = mark.args[0]
        difference = KNOWN_DIFFERENCES[key]
        reason = f"{key}: {difference.real}"
        item.add_marker(pytest.mark.xfail(reason=reason, strict=difference.always, run=difference.run))


@pytest.fixture(scope="session")
def real_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The real server, started once and only if a test wants it."""
    stash = request.config.stash
    if url := os.environ.get("PODIUM_TEST_SERVER"):
        stash[OUTCOME] = f"tested, the running one at {url}"
        yield RealServer(url.rstrip("/"))
        return
    stash[OUTCOME] = "NOT TESTED (it did not start)"
    try:
        with start_real_server(tmp_path_factory.mktemp("conductor")) as server:
            stash[OUTCOME] = f"tested, started by this run at {server.url}"
            stash[REAL_SERVER] = server
            yield server
    except UnavailableError as missing:
        stash[OUTCOME] = f"NOT TESTED ({missing})"
        if os.environ.get("PODIUM_REQUIRE_REAL_SERVER") != "1":
            pytest.skip(f"no real Conductor server: {missing}")
        raise


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[str]:
    """The URL of podium's own server, with an empty store."""
    from podium.testing import local_server

    with local_server() as server:
        yield server.url


@pytest.fixture(scope="session", params=["embedded", pytest.param("real", marks=REAL_MARKS)])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two servers in turn."""
    if request.param == "embedded":
        return Server(request.getfixturevalue("embedded_server"), "embedded")
    real: RealServer = request.getfixturevalue("real_server")
    return Server(real.url, "real")


@pytest.fixture
def stage(server: Server) -> Stage:
    """The server of this test, with the suite's helpers."""
    return Stage(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the real server's log beside a failure on it."""
    report = yield
    server = item.config.stash.get(REAL_SERVER, None)
    if report.failed and server is not None and item.get_closest_marker("real"):
        report.sections.append((f"end of {server.log}", server.log_tail()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in one line whether the real server was tested: a skip must not look like a pass."""
    outcome = config.stash.get(OUTCOME, "NOT TESTED (no real case was selected)")
    terminalreporter.write_line(f"real Conductor server: {outcome}")
