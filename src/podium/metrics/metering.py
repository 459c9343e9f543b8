"""Counting the tasks of one type: each series is looked up once, not for each task."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from podium.events import Meter

if TYPE_CHECKING:
    from podium.metrics.catalogue import Catalogue
    from podium.metrics.families import Buckets, Number, Window

SUCCESS: Final = "SUCCESS"


class TypeMeter(Meter):
    """Counts the tasks of one type; a series is shown from its first value on."""

    def __init__(self, catalogue: Catalogue, task_type: str) -> None:
        self._catalogue = catalogue
        self._task_type = task_type

    def started(self) -> None:
        """Count an execution."""
        self._started.add()
        self._active.add()

    def completed(self, seconds: float, size: int) -> None:
        """Take time and output size of an execution."""
        self._active.take()
        self._execute_seconds.observe(seconds)
        self._result_bytes.observe(size)
        if self._last_execute is not None:
            self._last_execute.set(seconds)
        if self._last_size is not None:
            self._last_size.set(size)

    def delivered(self, seconds: float) -> None:
        """Take the time of a delivery."""
        self._update_seconds.observe(seconds)

    @cached_property
    def _started(self) -> Number:
        return self._catalogue.started.of(self._task_type)

    @cached_property
    def _active(self) -> Number:
        return self._catalogue.active.of(self._task_type)

    @cached_property
    def _execute_seconds(self) -> Window | Buckets:
        return self._catalogue.execute_seconds.of(self._task_type, SUCCESS)

    @cached_property
    def _result_bytes(self) -> Window | Buckets:
        return self._catalogue.result_bytes.of(self._task_type)

    @cached_property
    def _update_seconds(self) -> Window | Buckets:
        return self._catalogue.update_seconds.of(self._task_type, SUCCESS)

    @cached_property
    def _last_execute(self) -> Number | None:
        last = self._catalogue.last_execute
        return None if last is None else last.of(self._task_type)

    @cached_property
    def _last_size(self) -> Number | None:
        last = self._catalogue.last_size
        return None if last is None else last.of(self._task_type)
