"""Attributes of conductor-python's classes that have no place in podium say why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class WithAbsent:
    """Base of classes that lack some attributes on purpose: reading one raises AttributeError with the reason."""

    absent: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        reason = self.absent.get(name)
        because = f", which has no place in podium: {reason}" if reason else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{because}", name=name, obj=self)
