"""pydantic's types, if the user's own code has loaded pydantic: this module never imports it.

pydantic reads and writes its models itself, by their own settings (aliases, strictness, extra keys), as JSON; so it
does the types that tell it how, such as HttpUrl and SecretStr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_origin

import msgspec

from podium.convert.path import join, key_segment, type_name
from podium.convert.scalar import KINDS, Convert, Fit, Plan
from podium.errors import ConversionError, DeclarationError


def is_pydantic(cls: type) -> bool:
    """Return whether a class is a pydantic model or dataclass, or says itself how pydantic reads it."""
    return "pydantic" in sys.modules and any(
        hasattr(cls, name) for name in ("__pydantic_validator__", "__get_pydantic_core_schema__")
    )


def has_pydantic_marks(metadata: Any) -> bool:
    """Return whether the metadata of ``Annotated`` is meant for pydantic, as ``Field(gt=0)`` is."""
    return "pydantic" in sys.modules and any(
        type(mark).__module__.partition(".")[0] in {"pydantic", "annotated_types"} for mark in metadata
    )


def pydantic_plan(annotation: Any, *, closed: bool) -> Plan:
    """Return the plan that leaves an annotation to pydantic."""
    pydantic = sys.modules["pydantic"]
    try:
        adapter = pydantic.TypeAdapter(annotation)
    except (pydantic.PydanticUserError, NameError, TypeError, ImportError) as error:
        raise DeclarationError(f"pydantic cannot read {annotation!r}: {error}") from error
    name = getattr(annotation, "__name__", "value")
    fields = getattr(annotation, "model_fields", None) or getattr(annotation, "__pydantic_fields__", None) or {}
    config = getattr(annotation, "model_config", None) or getattr(annotation, "__pydantic_config__", None) or {}
    known = frozenset(key for attribute, field in fields.items() for key in _keys(attribute, field, config))

    def convert(value: Any) -> Any:
        if closed and fields and type(value) is dict and not known.issuperset(value):
            key = next(key for key in value if key not in known)
            raise ConversionError(key_segment(key), f"unknown key ({name} has: {', '.join(sorted(known))})")
        try:
            # As JSON, because a strict model takes an ISO date from JSON, but not from a Python str.
            return adapter.validate_json(msgspec.json.encode(value))
        except pydantic.ValidationError as error:
            raise _translated(error) from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ConversionError("", f"not JSON: {error}") from error

    if fields:
        fit: dict[type, int] = {dict: Fit.EXACT}
    else:  # HttpUrl | str asks HttpUrl first, but PositiveInt | str reads "5" as the text that it is
        fit = dict.fromkeys(KINDS, Fit.ANYTHING if get_origin(annotation) is Annotated else Fit.PARSED)
    return Plan(name, convert, fit, keys=known)


def _keys(attribute: str, field: Any, config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of an object that pydantic reads a field from."""
    alias = field.validation_alias
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    by_alias = alias is not None and config.get("validate_by_alias") is not False
    if by_name or not by_alias:
        yield attribute
    if by_alias:
        for choice in getattr(alias, "choices", [alias]):  # of AliasChoices
            yield str(getattr(choice, "path", [choice])[0])  # AliasPath: the others are keys below the first one


def _translated(error: Any) -> ConversionError:
    """Return the first problem that pydantic found, and how many more there are."""
    problems = error.errors(include_url=False, include_context=False)
    path = ""
    for part in reversed(problems[0]["loc"]):
        path = join(f"[{part}]" if isinstance(part, int) else key_segment(part), path)
    message = problems[0]["msg"]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConversionError(path, message[:1].lower() + message[1:] + more)


def pydantic_encoder(cls: type) -> Convert:
    """Return the function that turns instances of a pydantic class into what its validator takes back."""
    pydantic = sys.modules["pydantic"]
    try:
        adapter = pydantic.TypeAdapter(cls)
    except (pydantic.PydanticUserError, TypeError):
        # A generic type's values do not know their parameters; what pydantic knows of the value alone has to do.
        adapter = pydantic.TypeAdapter(Any)

    def encode(value: Any) -> Any:
        try:
            return adapter.dump_python(value, mode="json", by_alias=True)
        except (TypeError, ValueError) as error:  # pydantic's own serialisation errors are ValueErrors
            raise ConversionError("", f"{type_name(cls)} cannot be JSON: {error}") from error

    return encode
