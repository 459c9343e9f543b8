"""Starting child processes: by fork server, by spawn, or by fork. Nothing here is global to the application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol

import podium
from podium import member
from podium.answers import printable
from podium.crew import orphans
from podium.crew.forkserver import Exited, Forked, FromServer, NotForked, Preload, Preloaded
from podium.ends import Ends
from podium.errors import ConfigError, StartError
from podium.frames import BootFailed, FrameReader, Preparation, WorkerRef, encode
from podium.memory import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

StartMethod = Literal["forkserver", "spawn", "fork"]
START_METHODS: Final[tuple[StartMethod, ...]] = ("forkserver", "spawn", "fork")


class Child:
    """A started child process.

    ``ends`` are the parent's ends of its connections, ``exited`` resolves to the exit code: negative for a signal,
    None if nobody can tell any more. From then on, ``peak_memory`` is the most memory in bytes that the process had
    resident; 0 if nobody can tell.
    """

    def __init__(self, pid: int, ends: Ends) -> None:
        self.pid = pid
        self.ends = ends
        self.peak_memory = 0
        self._swept = False
        orphans.expect(pid)
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def set_exited(self, code: int | None, peak_memory: int = 0) -> None:
        """Record the end of the process."""
        if not self.exited.done():
            self.peak_memory = peak_memory
            self.exited.set_result(code)

    async def wait(self) -> int | None:
        """Wait for the end and return the exit code. A waiter that is cancelled takes nobody else along."""
        return await asyncio.shield(self.exited)

    def kill(self) -> None:
        """Kill the process if it still runs, and what its tasks have started."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.sweep()

    def sweep(self) -> None:
        """Kill what the tasks of the process have started and left in its process group."""
        if self._swept:  # by now its id may be another's
            return
        self._swept = self.exited.done()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Launcher(Protocol):
    """A way to start children. All methods are called on the engine's loop."""

    #: Whether children have the functions already, or must import them by name.
    by_name: bool

    async def open(self) -> None:
        """Prepare; raises StartError if the user's modules cannot be imported."""

    async def launch(self, functions: list[Callable[..., Any]]) -> Child:
        """Start a child; ``functions`` are what it runs, in the order of its Boot frame."""

    async def close(self) -> None:
        """Release what ``open`` made; the children are gone by now."""


def make_launcher(method: StartMethod, imports: list[str], preparation: Preparation) -> Launcher:
    """Return the launcher for a start method; raises ConfigError where the system does not have it."""
    if not hasattr(os, "fork"):
        raise ConfigError('isolation="process" needs a POSIX system; use isolation="thread" here')
    match method:
        case "forkserver":
            return ForkServerLauncher(imports, preparation)
        case "spawn":
            return SpawnLauncher()
        case "fork":
            return ForkLauncher()


def import_depth(ref: WorkerRef, function: Callable[..., Any], start_method: StartMethod) -> int:
    """Return how many wrappers lie between what a function's name means in its module and the function itself.

    A child that imports the name unwraps it as often. Raises StartError, with the fix, if a child could not find the
    function that way.
    """
    fix = f'move it to the top level of its module, or use isolation="thread" (start_method={start_method!r})'
    where = f"worker {ref.name!r}: {ref.module}:{ref.qualname}"
    if "<lambda>" in ref.qualname:
        raise StartError(f"{where} is a lambda, which a worker process cannot import: write it as a function; {fix}")
    if "<locals>" in ref.qualname:
        raise StartError(
            f"{where} is defined inside another function, so a worker process cannot import it: {fix} "
            "(a decorator that is the cause keeps the function's name with functools.wraps)"
        )
    if not ref.module or not ref.qualname:
        kind = type(function).__name__
        raise StartError(
            f"worker {ref.name!r}: a {kind} has no name that a worker process could import: wrap it; {fix}"
        )
    found: Any = sys.modules.get(ref.module)
    for part in ref.qualname.split("."):
        found = getattr(found, part, None)
    depth = 0
    while found is not None:
        if found is function:
            return depth
        found = getattr(found, "__wrapped__", None)
        depth += 1
    raise StartError(
        f"{where} is not what that name means in its module (a method of an object, or a replaced function), "
        f"so a worker process cannot import it: {fix}"
    )


def _interpreter(code: str, fds: list[int]) -> subprocess.Popen[bytes]:
    """Run a line of podium in a fresh interpreter that inherits nothing but ``fds`` and the streams for output."""
    root = str(Path(podium.__file__).parent.parent)
    # As this program was started, but without the current folder in front of the standard library.
    flags = [*subprocess._args_from_interpreter_flags(), "-P"]  # type: ignore[attr-defined] # noqa: SLF001 - as multiprocessing has it
    line = f"import sys; sys.path.append({root!a}); {code}"
    return subprocess.Popen(  # noqa: S603 - our own line
        [sys.executable, *flags, "-c", line],
        stdin=subprocess.DEVNULL,  # what comes in there is the program's
        # Streams that were closed when the program began: their numbers are those of other files by now.
        stdout=subprocess.DEVNULL if sys.__stdout__ is None else None,
        stderr=subprocess.DEVNULL if sys.__stderr__ is None else None,
        pass_fds=fds,
        process_group=0,  # so that Ctrl-C in a terminal reaches this program alone, which then drains
    )


@contextlib.contextmanager
def _handing_over(ours: Ends, theirs: Ends) -> Iterator[None]:
    """Let go of the child's ends when it has them, and of both if that fails."""
    try:
        yield
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


class SpawnLauncher:
    """Each child is a fresh interpreter: slowest and largest, inherits nothing."""

    by_name = True

    async def open(self) -> None:
        """Nothing to prepare."""

    async def launch(self, functions: list[Callable[..., Any]]) -> Child:  # noqa: ARG002 - it imports them itself
        """Start an interpreter."""
        import resource  # not every system has it, nor this way to start children

        ours, theirs = Ends.pair()
        code = f"from podium import ends, member; member.main(ends.Ends.of(*{theirs.fds}))"
        # The system begins to measure the new interpreter before it has given up the memory of this process.
        ours_at_most = peak_memory(resource.getrusage(resource.RUSAGE_SELF))
        with _handing_over(ours, theirs):
            process = _interpreter(code, theirs.fds)
        child = Child(process.pid, ours)
        _watch(child, ours_at_most)
        process.returncode = 0  # it is waited for elsewhere
        return child

    async def close(self) -> None:
        """Nothing to release."""


class ForkLauncher:
    """Each child is a copy of this process: fast, sees live objects, and inherits locks and threads' leftovers."""

    by_name = False

    def __init__(self) -> None:
        #: The parent's ends: a child must not keep its siblings' connections open.
        self._ours: list[Ends] = []

    async def open(self) -> None:
        """Nothing to prepare."""

    async def launch(self, functions: list[Callable[..., Any]]) -> Child:
        """Fork."""
        ours, theirs = Ends.pair()
        self._ours = [ends for ends in self._ours if ends.frames.fileno() != -1]
        self._ours.append(ours)
        with _handing_over(ours, theirs):
            with warnings.catch_warnings():
                # Forking a process with threads is what the user asked for with start_method="fork".
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._run_child(theirs, functions)
        child = Child(pid, ours)
        _watch(child)
        return child

    def _run_child(self, theirs: Ends, functions: list[Callable[..., Any]]) -> NoReturn:
        try:
            # The copy is inside the engine's running loop, and must be able to run its own.
            asyncio._set_running_loop(None)  # noqa: SLF001 - the documented way for code that switches loops
            signal.set_wakeup_fd(-1)
            for ends in self._ours:
                ends.drop()
            _detach_stdin()
            member.main(theirs, functions)
        finally:
            os._exit(1)  # never go on as a second engine

    async def close(self) -> None:
        """Nothing to release."""


class ForkServerLauncher:
    """Children are forked from a clean process that has imported the user's modules once."""

    by_name = True

    def __init__(self, imports: list[str], preparation: Preparation) -> None:
        self._imports = imports
        self._preparation = preparation
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        #: Who waits for a child, with the parent's ends of its connections; answers come in the order of requests.
        self._waiting: deque[tuple[asyncio.Future[Child], Ends]] = deque()
        self._children: dict[int, Child] = {}
        self._opened: asyncio.Future[Preloaded] | None = None
        self._launching = asyncio.Lock()

    async def open(self) -> None:
        """Start the server and wait until it has imported the user's modules."""
        loop = asyncio.get_running_loop()
        control, theirs = socket.socketpair()
        code = f"from podium.crew import forkserver; forkserver.main({theirs.fileno()})"
        try:
            self._process = _interpreter(code, [theirs.fileno()])
        except BaseException:
            control.close()
            raise
        finally:
            theirs.close()
        self._control = control
        self._opened = loop.create_future()
        self._control.setblocking(False)
        reader: FrameReader[FromServer] = FrameReader(FromServer)
        loop.add_reader(self._control, self._on_readable, self._control, reader)
        await loop.sock_sendall(self._control, encode(Preload(self._preparation, self._imports)))
        preloaded = await self._opened
        if preloaded.threads:
            logger.warning(
                "the modules of the workers start threads when they are imported (%s); forked workers do not have "
                'them: start them inside the tasks, or use start_method="spawn"',
                printable(", ".join(preloaded.threads)),
            )

    async def launch(self, functions: list[Callable[..., Any]]) -> Child:  # noqa: ARG002 - the server has them
        """Ask the server for a child."""
        async with self._launching:  # several members may find the server dead at once: one of them replaces it
            if self._control is None:
                await self.close()
                await self.open()
            ours, theirs = Ends.pair()
            forked: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
            assert self._control is not None
            with _handing_over(ours, theirs):
                socket.send_fds(self._control, [b"f"], theirs.fds)
            self._waiting.append((forked, ours))
        try:
            return await forked
        except asyncio.CancelledError:
            if forked.done() and not forked.cancelled():  # the child is there, and nobody knows it
                ours.close()
            raise

    async def close(self) -> None:
        """End the server."""
        self._disconnect()
        if self._process is not None:
            self._process.kill()
            self._process.wait()  # it is dead: there is nothing to wait for but the kernel
            self._process = None

    def _on_readable(self, control: socket.socket, reader: FrameReader[FromServer]) -> None:
        try:
            data = control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:  # it died with something of ours unread
            data = b""
        if not data:
            self._disconnect()
        for frame in reader.feed(data):
            self._handle(frame)

    def _handle(self, frame: FromServer) -> None:
        assert self._opened is not None
        match frame:
            case Preloaded() | BootFailed() if self._opened.done():  # who waited for it was cancelled
                pass
            case Preloaded():
                self._opened.set_result(frame)
            case BootFailed(message):
                self._opened.set_exception(StartError(message))
            case NotForked(number):
                forked, ours = self._waiting.popleft()
                ours.close()
                if not forked.done():
                    forked.set_exception(OSError(number, os.strerror(number)))
            case Forked(pid):
                forked, ours = self._waiting.popleft()
                child = self._children[pid] = Child(pid, ours)
                if forked.done():  # nobody wants the child any more; it ends with its connection
                    ours.close()
                else:
                    forked.set_result(child)
            case Exited(pid, exit_code, peak):
                ended = self._children.pop(pid, None)
                if ended is not None:  # else a process that the user's modules started when they were imported
                    ended.set_exited(exit_code, peak)

    def _disconnect(self) -> None:
        """Let go of the server, which is gone or about to be killed, and of everything that only it could tell."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._control = None
        lost = StartError("the fork server ended unexpectedly")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(lost)
        for forked, ours in self._waiting:
            ours.close()
            if not forked.done():
                forked.set_exception(lost)
        self._waiting.clear()
        for child in self._children.values():
            child.kill()
            child.set_exited(None)
        self._children.clear()


def _detach_stdin() -> None:
    """Leave standard input to the program: for a forked child, and all that its tasks start, it has ended."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # What the copied object has read ahead is the program's, too, and a thread of the program may have locked it.
    sys.stdin = open(null, encoding="utf-8")  # noqa: SIM115, PTH123 - open as long as the process runs


def _watch(child: Child, not_its_own: int = 0) -> None:
    """Wait for a direct child of this process in a thread, and tell the loop.

    A peak of memory that is not above ``not_its_own`` is not that of the child.
    """
    loop = asyncio.get_running_loop()

    def watch() -> None:
        code, peak = None, 0
        with contextlib.suppress(ChildProcessError):  # somebody else in the program has waited for it
            _, status, usage = os.wait4(child.pid, 0)
            code, peak = os.waitstatus_to_exitcode(status), peak_memory(usage)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(child.set_exited, code, peak if peak > not_its_own else 0)

    threading.Thread(target=watch, name=f"podium-wait-{child.pid}", daemon=True).start()
