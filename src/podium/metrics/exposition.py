"""The numbers as Prometheus' text. The one module that knows prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from podium.metrics.families import Labels, Spec

Readings = Callable[[], Iterable[tuple["Spec", dict["Labels", Any]]]]


class Exposition:
    """Renders what ``read`` returns, and whatever else is registered in ``registry``, which is no global one."""

    def __init__(self, read: Readings, specs: Iterable[Spec]) -> None:
        self._read = read
        self._specs = tuple(specs)
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return text and content type: the best of the formats that the Accept header names, or the plain one."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    def collect(self) -> Iterable[Metric]:
        """Yield each family that has a series; the registry calls it."""
        for spec, readings in self._read():
            if readings:
                yield _metric(spec, readings)

    def describe(self) -> Iterable[Metric]:
        """Yield the names that are taken; the registry refuses others of that name."""
        return [_metric(spec, {}) for spec in self._specs]


def _metric(spec: Spec, readings: dict[Labels, Any]) -> Metric:
    metric = Metric(spec.name.removesuffix("_total"), spec.text, spec.kind)
    for values, reading in readings.items():
        labels = dict(zip(spec.labels, values, strict=True))
        if spec.kind in {"counter", "gauge"}:
            metric.add_sample(spec.name, labels, reading)
            continue
        for quantile, value in reading.get("quantiles", {}).items():
            metric.add_sample(spec.name, labels | {"quantile": str(quantile)}, value)
        for bound, count in reading.get("buckets", {}).items():
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            metric.add_sample(f"{spec.name}_bucket", labels | {"le": le}, count)
        metric.add_sample(f"{spec.name}_count", labels, reading["count"])
        metric.add_sample(f"{spec.name}_sum", labels, reading["sum"])
    return metric
