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
    from podium.cli.ending import EARLY_STOP, ExitCode, StoppedEarly, explain, leave, open_standard_streams, say
    from podium.errors import PodiumError

    open_standard_streams()
    try:
        try:
            EARLY_STOP.install()
            from podium.cli.app import app

            code = app(prog_name="podium", standalone_mode=True)
        finally:
            EARLY_STOP.over()
    except SystemExit as end:
        code = end.code
    except StoppedEarly:
        say("podium: stopped by a signal before any worker ran")
        code = ExitCode.DRAINED
    except PodiumError as error:
        explain(error)
        code = ExitCode.of(error)
    leave(code if isinstance(code, int) else 0)
