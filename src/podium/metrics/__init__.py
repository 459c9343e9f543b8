"""Metrics of workers: a listener that counts, and what shows its numbers to Prometheus.

``MetricsCollector`` hears events and keeps numbers (``families``, named in ``catalogue``); ``exposition`` turns them
into Prometheus' text; ``MetricsExporter`` (in ``exporter``) serves that text over HTTP and writes it to a file.
"""

from __future__ import annotations

from podium.metrics.collector import MetricsCollector
from podium.metrics.settings import MetricsSettings

__all__ = ["MetricsCollector", "MetricsSettings"]
