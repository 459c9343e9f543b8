"""How a child comes to see the modules that its parent sees: the parent describes them, the child takes over.

multiprocessing has the same, but it settles the application's start method on the way, skips the workers of a
``__main__.py``, and fails on what is no text.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from podium.errors import StartError
from podium.frames import Preparation

#: The name of the main module in a child: not ``__main__``, so that its main guard does not start a second program.
_IN_CHILD: Final = "__mp_main__"
#: The names that a function of the main module may carry; the second in a program that multiprocessing started.
MAIN_NAMES: Final = frozenset({"__main__", _IN_CHILD})


def main_preparation(*, with_main: bool) -> Preparation:
    """Return what a child needs to see the same modules as this process.

    ``with_main`` if it must import the main module too, because workers are declared there. Raises StartError if that
    module cannot be imported.
    """
    name, path = _main_module() if with_main else ("", "")
    entries: list[object] = [*sys.path]
    return Preparation(
        path=[_to_bytes(entry) for entry in entries if isinstance(entry, str)],  # Python ignores the others
        arguments=[_to_bytes(str(argument)) for argument in sys.argv],
        folder=_to_bytes(str(Path.cwd())),
        main_name=name,
        main_path=_to_bytes(path),
    )


def prepare(preparation: Preparation) -> None:
    """Make this process see the modules that the parent sees. Raises whatever the main module raises."""
    sys.path[:] = map(_to_text, preparation.path)
    sys.argv[:] = map(_to_text, preparation.arguments)
    os.chdir(_to_text(preparation.folder))
    if sys.modules["__main__"].__name__ == _IN_CHILD:  # the fork server has imported it
        return
    if preparation.main_name:
        content = runpy.run_module(preparation.main_name, run_name=_IN_CHILD, alter_sys=True)
    elif preparation.main_path:
        content = runpy.run_path(_to_text(preparation.main_path), run_name=_IN_CHILD)
    else:
        return
    module = ModuleType(_IN_CHILD)
    vars(module).update(content)
    sys.modules["__main__"] = sys.modules[_IN_CHILD] = module


def _main_module() -> tuple[str, str]:
    """Return the name of the main module, or else its path; the other one is empty."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":  # python -m
        return spec.name, ""
    file = getattr(main, "__file__", None)
    if file is not None:
        path = Path(file).absolute()
        if spec is not None:  # a folder or an archive was run, and this is the __main__.py in it
            path = path.parent
        if path.exists():
            return "", str(path)
    raise StartError(
        "workers are declared in an interactive session or in a program read from standard input, which a "
        'worker process cannot import: put them into a module, or use isolation="thread"'
    )


def _to_bytes(text: str) -> bytes:
    """Encode text of the system, which holds lone surrogates for what it could not decode: no frame carries these."""
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
