"""conductor-python's metrics settings and collectors.

podium's metrics are imported when settings or a collector are made, which worker processes never do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import podium


@dataclass
class MetricsSettings:
    """Where metrics are written or served; times in seconds.

    With ``http_port`` they are served, on all networks, and no file is written. ``clean_directory`` and
    ``clean_dead_pids`` are accepted, and there is nothing for them to clean: one process holds all metrics, and writes
    one file.
    """

    directory: str | None = None
    file_name: str = "metrics.log"
    update_interval: float = 0.1
    http_port: int | None = None
    clean_directory: bool = False
    clean_dead_pids: bool = False

    def __post_init__(self) -> None:
        if self.directory is None:
            self.directory = get_default_temporary_folder()

    @property
    def is_canonical(self) -> bool:
        """Whether WORKER_CANONICAL_METRICS asks for the histograms."""
        return os.environ.get("WORKER_CANONICAL_METRICS", "").strip().lower() in {"true", "1", "yes"}

    @property
    def metrics_directory(self) -> str | None:
        """The directory itself, in both styles."""
        return self.directory

    def clean_metrics_directory(self) -> None:
        """Return at once: there is one file, which each write replaces."""

    def native(self, style: Any = None) -> podium.MetricsSettings:
        """Return podium's settings."""
        import podium

        return podium.MetricsSettings(
            directory=None if self.http_port is not None else self.directory,
            file_name=self.file_name,
            update_interval=self.update_interval,
            http_port=self.http_port,
            http_host="0.0.0.0",  # noqa: S104 - where conductor-python listens, and whoever reads the metrics looks
            style=style,
        )


def get_default_temporary_folder() -> str:
    """Return the folder for metrics files: ``~/tmp``."""
    return str(Path.home() / "tmp")


class MetricsCollector:
    """Makes podium's MetricsCollector."""

    _style: str | None = None

    def __new__(cls, settings: MetricsSettings | podium.MetricsSettings | None = None) -> Any:
        """Return podium's collector."""
        import podium

        if isinstance(settings, MetricsSettings):
            return podium.MetricsCollector(settings.native(cls._style))
        return podium.MetricsCollector(settings)

    def __init_subclass__(cls, *, style: str | None = None) -> None:
        if style is None:
            raise TypeError(f"{cls.__name__}: podium.MetricsCollector is the class to inherit from")
        cls._style = style


class LegacyMetricsCollector(MetricsCollector, style="legacy"):
    """Makes podium's MetricsCollector with quantiles."""


class CanonicalMetricsCollector(MetricsCollector, style="canonical"):
    """Makes podium's MetricsCollector with histograms."""
