"""The suite's own promises: its documentation is complete, and missing parts are named."""

from pathlib import Path

import pytest

from conformance import real_server
from conformance.known_differences import KNOWN_DIFFERENCES

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_page_lists_the_known_differences() -> None:
    rows = [cells(line) for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    expected = [[f"`{key}`", known.real, known.embedded] for key, known in KNOWN_DIFFERENCES.items()]
    assert rows == expected


def test_missing_jdk_is_named_with_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real_server, "JDK_PLACES", (f"{tmp_path}/*/bin/java",))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(real_server.UnavailableError, match=f"no JDK 21\\+ found: looked at .*{tmp_path}"):
        real_server.find_java()


def test_old_jdk_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "old" / "bin" / "java"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\" 2021-10-19' >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(real_server, "JDK_PLACES", (f"{tmp_path}/*/bin/java",))
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(real_server.UnavailableError, match=r"java \(17\)"):
        real_server.find_java()


def test_newer_jdk_behind_an_old_one_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, version in (("a", "17.0.1"), ("b", "21.0.2")):
        java = tmp_path / name / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n")
        java.chmod(0o755)
    monkeypatch.setattr(real_server, "JDK_PLACES", (f"{tmp_path}/*/bin/java",))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert real_server.find_java() == tmp_path / "b" / "bin" / "java"


def test_missing_jar_without_maven_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAVEN_ARGS", f"-B -Dmaven.repo.local={tmp_path}/repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(real_server.UnavailableError, match=f"not in {tmp_path}/repository and there is no mvn"):
        real_server.find_jar()


def test_jar_of_the_local_repository_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAVEN_OPTS", f"-Dmaven.repo.local={tmp_path}")
    jar = tmp_path / real_server.JAR
    jar.parent.mkdir(parents=True)
    jar.touch()
    assert real_server.find_jar() == jar


def test_server_that_ends_at_once_is_reported_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setattr(real_server, "find_java", lambda: java)
    monkeypatch.setattr(real_server, "find_jar", lambda: tmp_path / "any.jar")
    started = real_server.start_real_server(tmp_path)
    with pytest.raises(RuntimeError, match=r"exit code 3 while it started(.|\n)*no memory left"), started:
        pass
