"""The base of the wire structs."""

from __future__ import annotations

from typing import Any

import msgspec


class Wire(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """Base of the wire structs: camelCase in JSON, defaults left out."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object (camelCase keys, defaults left out)."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return result
