"""The command ``podium``."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> None:
    """Run the command line and exit with its code; an error that podium foresees is one line, not a traceback."""
    if sys.argv[1:2] == ["run"]:
        _run()
    from podium.answers import harmless
    from podium.cli.app import app
    from podium.errors import PodiumError

    try:
        app(prog_name="podium")
    except PodiumError as error:
        print(f"podium: {harmless(str(error))}", file=sys.stderr)
        sys.exit(1)


def _run() -> NoReturn:
    """Run ``podium run``, which ends by signals, at any time, and says by its exit code how."""
    from podium.cli.ending import EARLY_STOP, code_after, leave, open_standard_streams

    open_standard_streams()
    code = 0
    try:
        try:
            EARLY_STOP.install()
            from podium.cli.app import app

            app(prog_name="podium", standalone_mode=True)  # ends by SystemExit
        finally:
            EARLY_STOP.over()
    except BaseException as error:
        EARLY_STOP.over()  # a signal may have come before it was
        code = code_after(error)
    leave(code)
