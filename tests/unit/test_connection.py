"""A child's end of the connection: any thread writes to it, none waits, and nothing is torn or lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from podium.connection import Connection
from podium.frames import Beat, Cancel, Exit, FrameReader, Located, Ready, Run, ToChild, ToParent, encode

DEADLINE = 10.0
LARGE = "x" * 1_000_000


class Stage:
    """A connection that is open on the running loop, and its other end."""

    def __init__(self, *, opened: bool = True) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE)
        self.parent = ours
        self.taken: list[ToChild] = []
        self.ends = 0
        self.changed = asyncio.Event()
        self.connection = Connection(theirs, self._note_end)
        self._theirs = theirs
        self._reader: FrameReader[ToParent] = FrameReader(ToParent)
        if opened:
            self.connection.open(asyncio.get_running_loop(), self._take)

    def _take(self, frame: ToChild) -> None:
        self.taken.append(frame)
        self.changed.set()

    def _note_end(self) -> None:
        self.ends += 1
        asyncio.get_running_loop().remove_reader(self._theirs)  # a child ends here
        self.changed.set()

    def read(self, count: int) -> list[ToParent]:
        """Read frames as the parent does, in this thread."""
        frames: list[ToParent] = []
        while len(frames) < count:
            data = self.parent.recv(65536)
            assert data, "the end of the connection"
            frames += self._reader.feed(data)
        return frames

    def send_in_thread(self, *frames: ToParent) -> threading.Thread:
        """Send frames one by one in a thread of their own."""

        def send() -> None:
            for frame in frames:
                self.connection.send([frame])

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._theirs)
        loop.remove_writer(self._theirs)
        self.parent.close()
        self._theirs.close()


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE):
            await test()

    asyncio.run(limited())


def test_frames_of_the_parent_are_taken_on_the_loop() -> None:
    async def test() -> None:
        async with staged() as stage:
            sent = [Run(1, 0, LARGE.encode()), Cancel(1), Run(2, 0, b"{}")]
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, stage.parent.sendall, b"".join(map(encode, sent)))
            while len(stage.taken) < len(sent):
                stage.changed.clear()
                await stage.changed.wait()
            assert stage.taken == sent

    on_loop(test)


def test_first_frames_are_awaited() -> None:
    async def test() -> None:
        stage = Stage(opened=False)
        data = encode(Cancel(5)) + encode(Exit())
        stage.parent.sendall(data[:3])
        threading.Thread(target=stage.parent.sendall, args=(data[3:],)).start()
        assert stage.connection.first() == [Cancel(5), Exit()]
        stage.close()

    on_loop(test)


def test_frames_of_many_threads_arrive_whole_and_once() -> None:
    async def test() -> None:
        async with staged() as stage:
            reading = asyncio.get_running_loop().run_in_executor(None, stage.read, 4000)
            for sender in range(8):
                stage.send_in_thread(*(Ready(sender, number) for number in range(500)))
            of_each: dict[int, list[int]] = {sender: [] for sender in range(8)}
            for frame in await reading:
                assert isinstance(frame, Ready)
                of_each[frame.pid].append(frame.memory)
            assert of_each == {sender: list(range(500)) for sender in range(8)}

    on_loop(test)


def test_frames_that_are_sent_together_arrive_in_their_order() -> None:
    async def test() -> None:
        async with staged() as stage:
            stage.connection.send([Ready(1), Beat(0.5), Ready(2)])
            assert stage.read(3) == [Ready(1), Beat(0.5), Ready(2)]

    on_loop(test)


def test_thread_does_not_need_the_loop() -> None:
    async def test() -> None:
        async with staged() as stage:
            stage.send_in_thread(Ready(1)).join()
            assert stage.read(1) == [Ready(1)]  # the loop has not turned

    on_loop(test)


def test_parent_that_does_not_read_holds_up_no_sender() -> None:
    async def test() -> None:
        async with staged() as stage:
            sent: list[ToParent] = [Located(key, LARGE) for key in range(10)]
            for frame in sent[:5]:
                stage.connection.send([frame])
            stage.send_in_thread(*sent[5:]).join()
            reading = asyncio.get_running_loop().run_in_executor(None, stage.read, len(sent) + 1)
            while len(stage.connection._unsent) > 3:
                await asyncio.sleep(0)
            stage.connection.send([Beat(0.0)])  # behind what waits
            assert await reading == [*sent, Beat(0.0)]
            stage.send_in_thread(Beat(1.0)).join()
            assert stage.read(1) == [Beat(1.0)]  # and threads send themselves again

    on_loop(test)


def test_end_of_the_parent_is_told_and_words_to_it_are_dropped() -> None:
    async def test() -> None:
        async with staged() as stage:
            stage.parent.close()
            for _ in range(3):
                stage.connection.send([Beat(0.0)])
            await stage.changed.wait()
            assert stage.ends == 1
            stage.connection.send([Located(1, LARGE)])
            assert not stage.connection._unsent

    on_loop(test)


def test_stream_that_is_broken_is_told_and_is_the_end() -> None:
    async def test() -> None:
        told: list[BaseException | None] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        async with staged() as stage:
            stage.parent.sendall(b"\0\0\0\1\xc1")
            await stage.changed.wait()
            assert stage.ends == 1
            assert [str(error)[:22] for error in told] == ["a frame cannot be read"]

    on_loop(test)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_copy_of_the_process_that_a_task_has_made_says_nothing() -> None:
    async def test() -> None:
        async with staged() as stage:
            if (pid := os.fork()) == 0:
                stage.connection.send([Ready(2)])
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7  # noqa: ASYNC222 - it ends at once
            stage.connection.send([Ready(1)])
            assert stage.read(1) == [Ready(1)]
            stage.parent.setblocking(False)
            with pytest.raises(BlockingIOError):
                stage.parent.recv(1)

    on_loop(test)
