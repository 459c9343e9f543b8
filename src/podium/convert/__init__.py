"""The one converter between JSON and Python types, for the input and the output of tasks.

``converter_for`` compiles an annotation, ``to_json`` turns values into JSON, ``to_output`` makes a task's output of
what a function returned. What ``to_json`` makes of a value, ``converter_for`` its type makes the same value of again.

==============================================  =========================================================
Python                                          JSON
==============================================  =========================================================
str, int, float, bool, None, Any, object        as they are; never "5" for 5 or 1 for True; 3.0 is an int
list, tuple, set, frozenset, deque, Sequence    array
dict, Mapping, OrderedDict, Counter             object; keys may be text, numbers, booleans, enums, dates, UUIDs;
                                                a key of int is digits only
dataclass, attrs, Struct, TypedDict             object of the fields; defaults hold, extra keys are ignored;
                                                a default of None takes null, too, whatever the type says
NamedTuple                                      object of the fields; read from an array, too
class with an annotated constructor             object of the constructor's parameters
pydantic model, ``Annotated[..., Field(...)]``  as pydantic says, by alias
HttpUrl, EmailStr, SecretStr and their like     as pydantic says; a secret goes out as asterisks
Enum, Literal                                   the value (an Enum's name is no value); flags may be combined
date                                            ISO 8601 text: 2024-01-31; no time, not even midnight
datetime                                        ISO 8601 text: 2024-01-31T10:20:30Z, or 2024-01-31 10:20;
                                                never a date alone, never a number such as epoch milliseconds
time                                            ISO 8601 text: 10:20:30 or 10:20
timedelta                                       ISO 8601 duration; read from a number of seconds, too
UUID, Path                                      text
Decimal                                         text, exactly, such as 1.50; read from a number, too
bytes, bytearray                                base64 text
unions                                          the member that fits best
==============================================  =========================================================

Refused on the way out, with the path: NaN and infinities, integers beyond 64 bits, halves of surrogate pairs, what
contains itself or is nested more than 500 levels deep, and every type that has no row above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podium.convert.decode import Compiler, guarded
from podium.convert.encode import check_depth, to_json
from podium.convert.path import within, without_values
from podium.errors import ConversionError

__all__ = ["check_depth", "converter_for", "to_json", "to_output", "without_values"]


def converter_for(annotation: Any, *, closed: bool = False) -> Callable[[Any], Any]:
    """Compile an annotation into the function that reads its values from JSON builtins.

    The function raises ConversionError with the path below the value. ``closed`` (default False) refuses keys that
    are no field of an object, at every depth; otherwise they are ignored.
    Raises DeclarationError for a type that no JSON value can become.
    """
    return guarded(Compiler(closed=closed).plan(annotation))


def to_output(value: Any) -> dict[str, Any]:
    """Return a task's output for what its function returned: an object as it is, all else under the key ``result``.

    Raises ConversionError whose path starts with ``result``, which stands for the returned value.
    """
    try:
        output = to_json(value)
    except ConversionError as error:
        raise within("result", error) from error.__cause__
    return output if type(output) is dict else {"result": output}
