"""``python -m benchmarks.stub``: serve the worker API at a free port, and print the address first."""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks.stub.server import Stub
from benchmarks.stub.tasks import Store
from podium.loops import loop_factory


async def serve(store: Store) -> None:
    """Serve until killed."""
    stub = Stub(store)
    server = await asyncio.get_running_loop().create_server(stub.connect, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub", description=__doc__)
    parser.add_argument("--types", required=True, help="task types, separated by commas")
    parser.add_argument("--tasks", type=int, default=0, help="tasks of each type")
    parser.add_argument("--rate", type=float, default=0.0, help="tasks per second and type; 0: all at once")
    parser.add_argument("--payload", type=int, default=0, help="bytes of an extra input in each task")
    options = parser.parse_args()
    store = Store(options.types.split(","), options.tasks, options.rate, options.payload)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(store))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
