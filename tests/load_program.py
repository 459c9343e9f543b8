"""A whole program that runs one worker, for tests that kill it: ``python load_program.py '{"url": ..., "name": ...}'``.

Options: ``function`` of load_samples ("noted"), ``worker`` and ``handler`` options, ``configuration`` fields. It says
"ready" on standard output when it polls, and "ended" after an orderly end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import load_samples
from checker import MARK
from podium import Configuration, TaskHandler, Worker

TESTS = Path(__file__).parent


def start(
    options: dict[str, Any], *, mark: str = "", prefix: tuple[str, ...] = (), **popen: Any
) -> subprocess.Popen[str]:
    """Start the program; ``mark`` is how a checker knows its processes, ``prefix`` a command that runs it."""
    path = os.pathsep.join([str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONPATH": path, MARK: mark, **popen.pop("env", {})}
    command = [*prefix, sys.executable, str(TESTS / "load_program.py"), json.dumps(options)]
    return subprocess.Popen(
        command, env=environment, text=True, **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen)
    )


def main() -> None:
    options = json.loads(sys.argv[1])
    function = getattr(load_samples, options.get("function", "noted"))
    of_worker = {"poll_interval": 20, "lease_extend_enabled": True} | options.get("worker", {})
    of_handler = {"scan_for_annotated_workers": False} | options.get("handler", {})
    configuration = Configuration(server_api_url=options["url"], **options.get("configuration", {}))
    with TaskHandler([Worker(options["name"], function, **of_worker)], configuration, **of_handler) as handler:
        handler.start_processes()
        print("ready", flush=True)
        handler.join_processes()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
