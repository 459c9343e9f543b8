"""Metric families: numbers by label values, which one thread observes while others read.

Each family has a lock of its own, held for one observation, or while one series is copied: the engine's loop, which
observes, never waits for a whole rendering. Sorting and formatting happen outside of the locks, in the reader's thread.
Plain dicts, because an observation then costs a fraction of a microsecond.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Generic, Literal, TypedDict, TypeVar

Labels = tuple[str, ...]
S = TypeVar("S")

QUANTILES: Final = (0.5, 0.75, 0.9, 0.95, 0.99)
#: The value that stands for all label values beyond a family's limit.
OTHER: Final = "other"


@dataclass(frozen=True)
class Spec:
    """Name, kind, label names and help text of a family.

    ``bounded`` is the position of a label whose values come from outside, such as the names of exception classes: with
    the labels before it fixed, it has at most ``most`` values, and the rest count as "other". Each value is a series
    that Prometheus keeps for ever.
    """

    name: str
    kind: Literal["counter", "gauge", "summary", "histogram"]
    labels: tuple[str, ...]
    text: str
    bounded: int | None = None
    most: int = 50


class SummaryReading(TypedDict):
    """A copy of a summary's series: ``count`` and ``sum`` of all observations, ``quantiles`` of the latest ones."""

    count: int
    sum: float
    quantiles: dict[float, float]


class HistogramReading(TypedDict):
    """A copy of a histogram's series; ``buckets`` gives, per upper bound, how many observations were not above it."""

    count: int
    sum: float
    buckets: dict[float, int]


class _Family(Generic[S]):
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._series: dict[Labels, S] = {}
        self._known: dict[Labels, set[str]] = {}

    def _admitted(self, labels: Labels) -> Labels:
        """Return the labels under which a series that is not there yet is kept."""
        # What UTF-8 cannot express would make every later rendering fail.
        labels = tuple(str(value).encode("utf-8", "backslashreplace").decode() for value in labels)
        place = self.spec.bounded
        if place is None:
            return labels
        known = self._known.setdefault(labels[:place], set())
        if labels[place] in known:
            return labels
        if len(known) < self.spec.most:
            known.add(labels[place])
            return labels
        return (*labels[:place], OTHER, *labels[place + 1 :])

    def _items(self) -> list[tuple[Labels, S]]:
        with self._lock:
            return list(self._series.items())


class Numbers(_Family[float]):
    """A counter or a gauge: one number per series."""

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count."""
        with self._lock:
            if labels not in self._series:
                labels = self._admitted(labels)
            self._series[labels] = self._series.get(labels, 0) + amount

    def take(self, labels: Labels) -> None:
        """Subtract 1, but not below 0."""
        with self._lock:
            if self._series.get(labels, 0) > 0:
                self._series[labels] -= 1

    def set(self, labels: Labels, value: float) -> None:
        """Replace the number."""
        with self._lock:
            if labels not in self._series:
                labels = self._admitted(labels)
            self._series[labels] = value

    def read(self) -> dict[Labels, float]:
        """Return a copy."""
        return dict(self._items())


class _Window:
    __slots__ = ("count", "latest", "ranked", "total")

    def __init__(self, size: int) -> None:
        self.count = 0
        self.total = 0.0
        self.latest: deque[float] = deque(maxlen=size)
        #: The quantiles as of this count: a series that is at rest is not sorted again.
        self.ranked: tuple[int, dict[float, float]] = (0, {})


class Summaries(_Family[_Window]):
    """A summary: count and sum of all observations, quantiles of the latest ``window`` ones."""

    def __init__(self, spec: Spec, window: int) -> None:
        super().__init__(spec)
        self._size = window

    def observe(self, labels: Labels, value: float) -> None:
        """Take an observation."""
        with self._lock:
            window = self._series.get(labels)
            if window is None:
                window = self._series.setdefault(self._admitted(labels), _Window(self._size))
            window.count += 1
            window.total += value
            window.latest.append(value)

    def read(self) -> dict[Labels, SummaryReading]:
        """Return a copy, with quantiles."""
        return {labels: self._read(window) for labels, window in self._items()}

    def _read(self, window: _Window) -> SummaryReading:
        with self._lock:
            count, total = window.count, window.total
            as_of, quantiles = window.ranked
            latest = None if as_of == count else list(window.latest)
        if latest is not None:
            quantiles = quantiles_of(latest)
            window.ranked = (count, quantiles)
        return {"count": count, "sum": total, "quantiles": dict(quantiles)}


class _Buckets:
    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0


class Histograms(_Family[_Buckets]):
    """A histogram: how many observations were not above each of some bounds."""

    def __init__(self, spec: Spec, bounds: tuple[float, ...]) -> None:
        super().__init__(spec)
        self._bounds = bounds

    def observe(self, labels: Labels, value: float) -> None:
        """Take an observation."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            buckets = self._series.get(labels)
            if buckets is None:
                buckets = self._series.setdefault(self._admitted(labels), _Buckets(len(self._bounds)))
            buckets.counts[place] += 1
            buckets.total += value

    def read(self) -> dict[Labels, HistogramReading]:
        """Return a copy; the last bound is infinity."""
        return {labels: self._read(buckets) for labels, buckets in self._items()}

    def _read(self, buckets: _Buckets) -> HistogramReading:
        with self._lock:
            counts, total = buckets.counts.copy(), buckets.total
        up_to = list(accumulate(counts))
        return {
            "count": up_to[-1],
            "sum": total,
            "buckets": dict(zip((*self._bounds, math.inf), up_to, strict=True)),
        }


def quantiles_of(values: list[float]) -> dict[float, float]:
    """Return the quantiles by nearest rank: each is one of the values, the smallest with so many not above it."""
    values.sort()
    return {quantile: values[max(math.ceil(quantile * len(values)) - 1, 0)] for quantile in QUANTILES}
