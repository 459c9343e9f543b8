"""Finds, fetches, starts and stops the real Conductor server."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from conformance.http import Http

VERSION = "3.32.3"
ARTIFACT = f"org.conductoross:conductor-server:{VERSION}:jar:boot"
JAR = Path("org/conductoross/conductor-server", VERSION, f"conductor-server-{VERSION}-boot.jar")
OLDEST_JDK = 21
#: The server needs about 25 s on two idle cores.
START_TIMEOUT_S = 180
#: Maven has to fetch some hundred megabytes.
FETCH_TIMEOUT_S = 900
STOP_TIMEOUT_S = 15
LOG_TAIL_LINES = 60

#: Where JDKs are usually installed, as globs.
JDK_PLACES = (
    "/usr/lib/jvm/*/bin/java",
    "/usr/local/*/bin/java",
    "/opt/*/bin/java",
    "/opt/homebrew/opt/openjdk*/bin/java",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java",
    "~/.sdkman/candidates/java/*/bin/java",
    "~/.jdks/*/bin/java",
)


class UnavailableError(Exception):
    """This machine cannot run the real server; the text says what is missing."""


@dataclass(frozen=True)
class RealServer:
    """A running server: its API's URL and, if it was started here, its log file and its process id."""

    url: str
    log: Path | None = None
    pid: int | None = None

    def log_tail(self) -> str:
        """Return the end of the log, empty for a server that somebody else started."""
        if self.log is None:
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def java_version(java: Path) -> int | None:
    """Return the major version of a java executable, None if it is not a working one."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else None


def java_candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java"):
        yield Path(on_path)
    for place in JDK_PLACES:
        absolute = Path(place).expanduser()
        yield from sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))


def find_java() -> Path:
    """Return a java executable that is new enough."""
    seen: dict[Path, str] = {}
    for candidate in java_candidates():
        real = candidate.resolve()
        if real in seen:
            continue
        version = java_version(real)
        if version is not None and version >= OLDEST_JDK:
            return real
        seen[real] = f"{candidate} ({'not usable' if version is None else version})"
    looked = ", ".join(seen.values()) or "JAVA_HOME, PATH, " + ", ".join(JDK_PLACES)
    raise UnavailableError(f"no JDK {OLDEST_JDK}+ found: looked at {looked}")


def local_repository() -> Path:
    """Return Maven's local repository, as Maven itself would choose it."""
    options = shlex.split(" ".join(os.environ.get(name, "") for name in ("MAVEN_ARGS", "MAVEN_OPTS")))
    for option in options:
        if option.startswith("-Dmaven.repo.local="):
            return Path(option.partition("=")[2])
    settings = Path("~/.m2/settings.xml").expanduser()
    if settings.is_file():
        for element in ET.parse(settings).iter():
            if element.tag.rpartition("}")[2] == "localRepository" and element.text and "${" not in element.text:
                return Path(element.text.strip()).expanduser()
    return Path("~/.m2/repository").expanduser()


def find_jar() -> Path:
    """Return the server's jar, fetched with Maven if it is not in the local repository yet."""
    repository = local_repository()
    jar = repository / JAR
    if jar.is_file():
        return jar
    maven = shutil.which("mvn")
    if maven is None:
        raise UnavailableError(f"{ARTIFACT} is not in {repository} and there is no mvn on PATH to fetch it")
    command = [maven, "-q", "-B", f"-Dmaven.repo.local={repository}", "dependency:get", "-Dtransitive=false"]
    try:
        done = subprocess.run(
            [*command, f"-Dartifact={ARTIFACT}"], capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"mvn did not fetch {ARTIFACT} within {FETCH_TIMEOUT_S} s") from None
    if not jar.is_file():
        said = (done.stdout + done.stderr).strip().splitlines()
        raise UnavailableError(f"mvn could not fetch {ARTIFACT}: {said[0] if said else f'exit code {done.returncode}'}")
    return jar


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_healthy(base_url: str) -> bool:
    try:
        answer = Http(base_url).get("/health")
    except OSError:
        return False
    return answer.status == 200 and answer.json["healthy"] is True


def wait_until_healthy(process: subprocess.Popen[bytes], base_url: str) -> None:
    """Return once the server answers; raise with the reason if it does not in time."""
    deadline = time.monotonic() + START_TIMEOUT_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode} while it started")
        if is_healthy(base_url):
            return
        pause.wait(0.5)
    raise RuntimeError(f"the server was not healthy within {START_TIMEOUT_S} s")


@contextmanager
def killed_with_us(pid: int) -> Iterator[None]:
    """Guard a process: when we die without a chance to clean up, the pipe closes and the guard kills it."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", f"read -r _; kill -9 {pid}"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


@contextmanager
def running_process(command: list[str], directory: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, however it ends."""
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches pytest, which then stops the server in order.
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        with killed_with_us(process.pid):
            yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        process.kill()
        process.wait()


@contextmanager
def start_real_server(directory: Path) -> Iterator[RealServer]:
    """Run the real server in a directory of its own (its database lands there) and yield it, healthy.

    Raises UnavailableError if this machine lacks the JDK or the jar, RuntimeError with the log if it does not start.
    """
    java, jar, port = find_java(), find_jar(), free_port()
    base_url, log = f"http://127.0.0.1:{port}", directory / "server.log"
    command = [str(java), "-Xmx2g", "-jar", str(jar), f"--server.port={port}", "--server.address=127.0.0.1"]
    with running_process(command, directory, log) as process:
        server = RealServer(f"{base_url}/api", log, process.pid)
        try:
            wait_until_healthy(process, base_url)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; the end of {log}:\n{server.log_tail()}") from error
        yield server
