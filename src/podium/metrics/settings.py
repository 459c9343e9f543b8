"""Settings of metrics: which names, and where they are shown."""

from __future__ import annotations

import math
import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from podium.errors import ConfigError

Style = Literal["legacy", "canonical"]

_STYLES: Final = ("legacy", "canonical")
_VARIABLE: Final = "WORKER_CANONICAL_METRICS"
_STYLE_OF_FLAG: Final[dict[str, Style]] = {
    **dict.fromkeys(("true", "1", "yes", "on"), "canonical"),
    **dict.fromkeys(("false", "0", "no", "off", ""), "legacy"),
}
#: A day: more is a mistake of the unit.
_LONGEST_INTERVAL: Final = 86_400


@dataclass(frozen=True)
class MetricsSettings:
    """What a ``MetricsCollector`` counts, and where a ``TaskHandler`` shows it.

    directory
        Folder of the metrics file, made if it is not there; ``~`` is the user's home. Default: none with an
        ``http_port``, else ``~/tmp``. Programs that share a folder need different file names.
    file_name
        Name of that file ("metrics.prom", the ending that Prometheus' node exporter reads).
    update_interval
        Seconds between two looks whether the file needs to be written again (5).
    http_port
        Port for ``/metrics`` and ``/health``; 0 takes a free one. Default: no HTTP. With a directory, both happen.
    http_host
        Address to listen at ("127.0.0.1"); "0.0.0.0" is every network that this machine is in.
    style
        Names and kinds of the metrics: "legacy", those of Conductor's Python SDK with quantiles, or "canonical",
        histograms. Default: canonical if the environment variable WORKER_CANONICAL_METRICS is true, else legacy.
    window
        Quantiles are those of so many latest observations of each series (1000). The counts are of all.

    Raises ConfigError for a value that cannot work, also of the environment variable.
    """

    directory: str | os.PathLike[str] | None = None
    file_name: str = "metrics.prom"
    update_interval: float = 5.0
    http_port: int | None = None
    _: KW_ONLY
    http_host: str = "127.0.0.1"
    style: Style | None = None
    window: int = 1000

    def __post_init__(self) -> None:
        if self.directory is not None:
            _check("directory", self.directory, _is_path(self.directory), "the path of a folder, or None")
        _check("file_name", self.file_name, _is_plain_name(self.file_name), "the name of a file, without a folder")
        interval = self.update_interval
        _check("update_interval", interval, _is_interval(interval), f"seconds, above 0 and at most {_LONGEST_INTERVAL}")
        port = self.http_port
        _check("http_port", port, port is None or _is_whole(port, 0, 65_535), "0 (any free port) to 65535, or None")
        host = self.http_host
        _check("http_host", host, _is_host(host), "an address or host name")
        style = _style_from_environment() if self.style is None else self.style
        _check("style", style, style in _STYLES, "'legacy', 'canonical', or None for the environment's")
        object.__setattr__(self, "style", style)
        _check("window", self.window, _is_whole(self.window, 1, 100_000), "a whole number from 1 to 100000")

    @property
    def is_canonical(self) -> bool:
        """Whether the style is "canonical"."""
        return self.style == "canonical"

    @property
    def file_path(self) -> Path | None:
        """The file to write; None if there is only HTTP. Raises ConfigError if ``~`` leads nowhere."""
        if self.directory is None and self.http_port is not None:
            return None
        directory = Path("~/tmp" if self.directory is None else self.directory)
        try:
            return directory.expanduser() / self.file_name
        except RuntimeError as error:
            raise ConfigError(f"MetricsSettings.directory={str(directory)!r}: {error}; give a full path") from None


def _style_from_environment() -> Style:
    value = os.environ.get(_VARIABLE, "")
    style = _STYLE_OF_FLAG.get(value.strip().lower())
    if style is None:
        raise ConfigError(f"environment variable {_VARIABLE}={value!r}: expected true or false")
    return style


def _check(name: str, value: object, ok: bool, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"MetricsSettings.{name}={value!r}: expected {allowed}")


def _is_plain_name(value: Any) -> bool:
    return isinstance(value, str) and value not in {"", ".", ".."} and not set(value) & set("/\\\0")


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(os.fspath(value)) and "\0" not in str(value)


def _is_host(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() and bool(value)


def _is_interval(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 < value <= _LONGEST_INTERVAL


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
