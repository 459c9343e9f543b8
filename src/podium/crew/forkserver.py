"""The fork server: a clean process that imports the user's modules once and forks crew children from there.

It has no threads, opens no connections and runs no tasks, so its children inherit nothing but loaded modules, which
they share in memory. It is podium's own, and not multiprocessing's, so that the application's use of multiprocessing
stays as it is.

    parent -> server    Preload, then one byte with the ends of a child's connections for each child to fork
    server -> parent    Preloaded | BootFailed, then Forked(pid) or NotForked(errno), and Exited(pid, status)
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import threading
from typing import NoReturn

import msgspec

from podium import member
from podium.crew import orphans
from podium.ends import Ends, take_standard_numbers
from podium.frames import BootFailed, FrameReader, Preparation, ToChild, encode
from podium.kernel import die_with_parent_thread
from podium.loops import loop_factory
from podium.memory import peak_memory
from podium.signals import HANGUP


class Preload(msgspec.Struct, array_like=True, tag="preload"):
    """What to import before forking."""

    preparation: Preparation
    imports: list[str]


class Preloaded(msgspec.Struct, array_like=True, tag="preloaded"):
    """Everything is imported. ``threads`` are the names of threads that the user's modules started."""

    threads: list[str]


class Forked(msgspec.Struct, array_like=True, tag="forked"):
    """A child was forked; answers come in the order of the requests."""

    pid: int


class NotForked(msgspec.Struct, array_like=True, tag="not-forked"):
    """The system had no room for a child; in the place of the answer that it was."""

    errno: int


class Exited(msgspec.Struct, array_like=True, tag="exited"):
    """A child ended; ``exit_code`` is negative for a signal, ``peak_memory`` is in bytes."""

    pid: int
    exit_code: int
    peak_memory: int


FromServer = Preloaded | BootFailed | Forked | NotForked | Exited


def main(control_fd: int) -> NoReturn:
    """Serve forks on the control socket until the parent closes it. Never returns."""
    take_standard_numbers()
    # The end of the control connection says it too, unless a process that the program forked keeps it open.
    die_with_parent_thread()
    orphans.adopt()
    control = socket.socket(fileno=control_fd)
    preload = _read_preload(control)
    try:
        member.import_user_modules(preload.preparation, preload.imports)
    except BaseException as error:  # sys.exit() at import is a failure to start, too
        control.sendall(encode(member.boot_failure(error)))
        os._exit(member.EXIT_BOOT_FAILED)
    _make_what_children_share()
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    control.sendall(encode(Preloaded(threads)))
    gc.collect()
    gc.freeze()  # what is loaded now stays loaded: children should not touch its pages to look for garbage
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        signal.signal(HANGUP, lambda *_: None)
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
                _report_exits(control)
            if control.fileno() in ready:
                _fork_one(control, (wake_read, wake_write))
    except (BrokenPipeError, ConnectionResetError):  # the parent is gone while it was being told something
        os._exit(0)


def _make_what_children_share() -> None:
    """Load and make what every child uses, before there is one: made here, it is there once and not once for each."""
    loop_factory()
    FrameReader(ToChild)


def _read_preload(control: socket.socket) -> Preload:
    reader: FrameReader[Preload] = FrameReader(Preload)
    while True:
        data = control.recv(65536)
        if not data:
            os._exit(0)
        if frames := reader.feed(data):
            return frames[0]


def _fork_one(control: socket.socket, wake: tuple[int, int]) -> None:
    data, fds, _, _ = socket.recv_fds(control, 1, len(Ends._fields))
    if not data:
        os._exit(0)
    try:
        pid = os.fork()
    except OSError as error:  # it must not be the end of the children that there are
        answer: Forked | NotForked = NotForked(error.errno or 0)
    else:
        answer = Forked(pid)
        if pid == 0:
            _run_child(control, fds, wake)
    for fd in fds:
        os.close(fd)
    control.sendall(encode(answer))


def _run_child(control: socket.socket, fds: list[int], wake: tuple[int, int]) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    for fd in wake:
        os.close(fd)
    member.main(Ends.of(*fds))


def _report_exits(control: socket.socket) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.sendall(encode(Exited(pid, os.waitstatus_to_exitcode(status), peak_memory(usage))))
