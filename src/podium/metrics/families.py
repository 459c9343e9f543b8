"""Metric families: numbers by label values, which one thread observes while others read.

Each family has a lock of its own, held for one observation, or while one series is copied: the engine's loop, which
observes, never waits for a whole rendering. Sorting and formatting happen outside of the locks, in the reader's thread.
A series is found in a plain dict, or kept by whoever observes often: an observation then costs a fraction of a
microsecond.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar

Labels = tuple[str, ...]

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


class Number:
    """A series of a counter or a gauge."""

    __slots__ = ("_lock", "value")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count."""
        with self._lock:
            self.value += amount

    def take(self) -> None:
        """Subtract 1, but not below 0."""
        with self._lock:
            if self.value > 0:
                self.value -= 1

    def set(self, value: float) -> None:
        """Replace the number."""
        with self._lock:
            self.value = value

    def read(self) -> float:
        """Return it."""
        return self.value


class Window:
    """A series of a summary: count and sum of all observations, quantiles of the latest ``size`` ones."""

    __slots__ = ("_count", "_latest", "_lock", "_ranked", "_total")

    def __init__(self, lock: threading.Lock, size: int) -> None:
        self._lock = lock
        self._count = 0
        self._total = 0.0
        self._latest: deque[float] = deque(maxlen=size)
        #: The quantiles as of this count: a series that is at rest is not sorted again.
        self._ranked: tuple[int, dict[float, float]] = (0, {})

    def observe(self, value: float) -> None:
        """Take an observation."""
        with self._lock:
            self._count += 1
            self._total += value
            self._latest.append(value)

    def read(self) -> SummaryReading:
        """Return a copy, with quantiles."""
        with self._lock:
            count, total = self._count, self._total
            as_of, quantiles = self._ranked
            latest = None if as_of == count else list(self._latest)
        if latest is not None:
            quantiles = quantiles_of(latest)
            self._ranked = (count, quantiles)
        return {"count": count, "sum": total, "quantiles": dict(quantiles)}


class Buckets:
    """A series of a histogram: how many observations were not above each of some bounds."""

    __slots__ = ("_bounds", "_counts", "_lock", "_total")

    def __init__(self, lock: threading.Lock, bounds: tuple[float, ...]) -> None:
        self._lock = lock
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Take an observation."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._total += value

    def read(self) -> HistogramReading:
        """Return a copy; the last bound is infinity."""
        with self._lock:
            counts, total = self._counts.copy(), self._total
        up_to = list(accumulate(counts))
        return {
            "count": up_to[-1],
            "sum": total,
            "buckets": dict(zip((*self._bounds, math.inf), up_to, strict=True)),
        }


S = TypeVar("S", bound=Number | Window | Buckets)


class Family(Generic[S]):
    """All series of one name; ``make`` makes one, given the lock that all of them share."""

    def __init__(self, spec: Spec, make: Callable[[threading.Lock], S]) -> None:
        self.spec = spec
        self._make = make
        self._lock = threading.Lock()
        self._series: dict[Labels, S] = {}
        self._known: dict[Labels, set[str]] = {}

    def of(self, *labels: str) -> S:
        """Return the series with these label values, in the order of the labels; it is shown from now on."""
        return self._series.get(labels) or self._made(labels)

    def _made(self, labels: Labels) -> S:
        with self._lock:
            admitted = self._admitted(labels)
            if admitted not in self._series:
                self._series[admitted] = self._make(self._lock)
            return self._series[admitted]

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

    def read(self) -> dict[Labels, Any]:
        """Return a copy of the series."""
        with self._lock:
            series = list(self._series.items())
        return {labels: one.read() for labels, one in series}


def quantiles_of(values: list[float]) -> dict[float, float]:
    """Return the quantiles by nearest rank: each is one of the values, the smallest with so many not above it."""
    values.sort()
    return {quantile: values[max(math.ceil(quantile * len(values)) - 1, 0)] for quantile in QUANTILES}
