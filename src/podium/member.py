"""The child's side of a process crew: read frames, run executions, write outcomes.

A child holds no HTTP client, no credentials and no listeners. It lives exactly as long as its connection for
frames: when the parent is gone, so is the child, whatever the user's code is doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import select
import socket
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final, NoReturn

from podium.connection import Connection
from podium.errors import DeclarationError, StartError
from podium.execution import Runnable
from podium.frames import (
    Beat,
    Boot,
    BootFailed,
    Cancel,
    Locate,
    Located,
    Preparation,
    Ready,
    Run,
    ToChild,
    WorkerRef,
)
from podium.kernel import die_with_parent_thread, name_process
from podium.loops import beat, loop_factory
from podium.memory import resident_memory
from podium.pool import TaskPool
from podium.preparation import prepare
from podium.records import RecordSender, TaskRecords
from podium.signals import leave_to_parent
from podium.testimony import MAX_WORD

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from podium.ends import Ends
    from podium.testimony import Attendance

#: Exit code of a child that could not import or find what it is to run: restarting it would not help.
EXIT_BOOT_FAILED: Final = 3

#: Whether this process is importing the user's modules as a child, or as the fork server that children come from.
_importing = False


def refuse_while_importing(what: str) -> None:
    """Raise StartError if a child is importing the user's modules now: a script without a main guard got here."""
    if _importing:
        raise StartError(
            f"{what} is called while a worker process imports the script, which would start workers without end: "
            'put the code that starts the program under `if __name__ == "__main__":`'
        )


def import_user_modules(preparation: Preparation, imports: Iterable[str]) -> None:
    """Make this process see the modules that the parent sees; whatever they raise is raised."""
    global _importing  # noqa: PLW0603 - the user's modules, which run inside, have no other way to know
    _importing = True
    try:
        prepare(preparation)
        for name in imports:
            importlib.import_module(name)
    finally:
        _importing = False


def find_function(ref: WorkerRef) -> Callable[..., Any]:
    """Return the function that a reference names; raises StartError if it is not there."""
    module = importlib.import_module(ref.module)
    found: Any = module
    for part in ref.qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise StartError(
                f"worker {ref.name!r}: {ref.module}:{ref.qualname} is not there when the module is imported in a "
                "worker process; declare the function at the top level of its module, not under a condition"
            ) from None
    for _ in range(ref.depth):
        found = found.__wrapped__
    function: Callable[..., Any] = found
    return function


def compile_worker(ref: WorkerRef, function: Callable[..., Any]) -> Runnable:
    """Prepare a worker's function for execution."""
    try:
        return Runnable.compile(
            ref.name,
            function,
            is_async=ref.is_async,
            thread_count=ref.thread_count,
            strict_schema=ref.strict_schema,
            worker_id=ref.worker_id,
        )
    except DeclarationError as error:
        raise DeclarationError(f"worker {ref.name!r}: {error}") from error


def main(ends: Ends, functions: list[Callable[..., Any]] | None = None) -> NoReturn:
    """Run as a crew child until the parent closes the connection for frames. Never returns.

    ``functions`` are the workers' functions if the child has them already (start method fork); otherwise they are
    imported by name.
    """
    with contextlib.suppress(PermissionError):  # it leads its group already
        os.setpgid(0, 0)  # what the tasks start belongs to this child, and ends with it
    leave_to_parent()
    _attend_to_parent(ends)
    os.dup2(ends.errors.fileno(), 2)  # what is written there goes to the parent, which passes it on
    ends.errors.close()
    attendance = ends.testimony.open()
    connection = Connection(ends.frames, lambda: _leave(0))
    boot, *frames = connection.first()
    if not isinstance(boot, Boot):  # the parent gave up before it began
        os._exit(0)
    try:
        if functions is None:
            import_user_modules(boot.preparation, boot.imports)
            functions = [find_function(ref) for ref in boot.workers]
        workers = [compile_worker(ref, function) for ref, function in zip(boot.workers, functions, strict=True)]
    except BaseException as error:  # sys.exit() at import is a failure to start, too
        connection.send([boot_failure(error)])
        _leave(EXIT_BOOT_FAILED)
    _set_title(boot.title)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a task prints is seen at once, and survives a crash
            stream.reconfigure(line_buffering=True)
    _forward_logs(ends.records, boot.log_levels)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        _run_to_end(runner.get_loop(), _serve(connection, frames, workers, boot.beat_interval, attendance))
    _leave(0)


def boot_failure(error: BaseException) -> BootFailed:
    """Return the frame that tells the parent why a child cannot run.

    podium's own errors say what to do; an exception of the user's module needs its traceback.
    """
    if isinstance(error, (StartError, DeclarationError)):
        return BootFailed(str(error))
    trace = "".join(traceback.format_exception(error)).rstrip()
    return BootFailed(f"{type(error).__name__} while the modules of the workers were imported:\n{trace}")


def _run_to_end(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run the child's work, whatever user code does: asyncio lets a SystemExit of any task end the whole loop."""
    task = loop.create_task(work)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            if task.done():
                raise


class _Member:
    """What the child does with the parent's frames."""

    def __init__(self, connection: Connection, workers: list[Runnable], attendance: Attendance | None) -> None:
        self._connection = connection
        owner = f"the event loop of worker process {multiprocessing.current_process().name!r}"
        self._pool = TaskPool(workers, connection.send, attendance, owner=owner)

    def handle(self, frame: ToChild) -> None:
        match frame:
            case Run(key, worker, raw):
                self._pool.run(worker, key, raw)
            case Cancel(key):
                self._pool.cancel(key)
            case Locate(key):
                self._connection.send([Located(key, self._pool.stack(key))])
            case _:
                _leave(0)


async def _serve(
    connection: Connection,
    early: list[ToChild],
    workers: list[Runnable],
    beat_interval: float,
    attendance: Attendance | None,
) -> None:
    loop = asyncio.get_running_loop()
    member = _Member(connection, workers, attendance)
    connection.open(loop, member.handle)
    beat(loop, beat_interval, lambda lag: connection.send([Beat(lag, resident_memory())]))
    connection.send([Ready(os.getpid(), resident_memory())])
    for frame in early:
        member.handle(frame)
    await loop.create_future()  # until the process is left


def _forward_logs(channel: socket.socket, levels: dict[str, int]) -> None:
    """Let the parent write every record of this process, and only the parent.

    Handlers that the user's modules, or the parent before a fork, have set would write each record a second time.
    """
    sender = RecordSender(channel)
    logging.setLogRecordFactory(TaskRecords(logging.getLogRecordFactory()))
    root = logging.getLogger()
    for logger in [root, *root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
            if logger is root or not logger.propagate:
                logger.addHandler(sender)
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


def _attend_to_parent(ends: Ends) -> None:
    """End this process when the parent is gone, and tell where it is when asked, even if a task blocks the event loop.

    A thread waits for the other end of the socketpair to close. Where the system can (Linux), a signal comes from the
    kernel as well, for code that holds the GIL; it is bound to the thread that forked, so it is the second net only.
    """
    lifeline, questions = ends.frames.fileno(), ends.records.fileno()

    def watch() -> None:
        poll = select.poll()
        poll.register(lifeline, 0)  # a hang-up is always reported
        poll.register(questions, select.POLLIN)
        while all(fd != lifeline for fd, _ in poll.poll()):
            if word := _word_on(ends.records):
                ends.testimony.tell(word)
            else:
                poll.unregister(questions)
        os._exit(0)

    threading.Thread(target=watch, name="podium-lifeline", daemon=True).start()
    die_with_parent_thread()


def _word_on(channel: socket.socket) -> str:
    """Read a word of the parent's; it is empty at the end of the connection."""
    try:
        return channel.recv(MAX_WORD, socket.MSG_DONTWAIT).decode("ascii", "replace")
    except OSError:
        return ""


def _set_title(title: str) -> None:
    """Name the process after its workers: in log records, and in ps and top."""
    multiprocessing.current_process().name = title
    name_process(title)


def _leave(code: int) -> NoReturn:
    """End the process now: threads of the user's code may never end by themselves."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the reader of the stream is gone, and with it the reason to flush
    os._exit(code)
