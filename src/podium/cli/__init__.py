"""The command ``podium``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code; an error that podium foresees is one line, not a traceback."""
    from podium.answers import harmless
    from podium.cli.app import app
    from podium.errors import PodiumError

    try:
        app(prog_name="podium")
    except PodiumError as error:
        print(f"podium: {harmless(str(error))}", file=sys.stderr)
        sys.exit(1)
