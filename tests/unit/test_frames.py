"""Frames survive any cut of the stream; a broken stream is an error, never a guess."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import TaskResultStatus
from podium.frames import (
    MAX_FRAME,
    Beat,
    Boot,
    BootFailed,
    Cancel,
    Cause,
    Exit,
    FrameReader,
    Locate,
    Located,
    Outcome,
    Preparation,
    Ready,
    Run,
    ToChild,
    ToParent,
    WorkerRef,
    encode,
)

REF = WorkerRef("w", "module", "Class.function", is_async=False, thread_count=4, strict_schema=True, worker_id="id")
CAUSE = Cause("ValueError", "no luck", "Traceback ...")
TO_PARENT: list[ToParent] = [
    Ready(123),
    BootFailed("no module\nTraceback ..."),
    Outcome(7, TaskResultStatus.COMPLETED, b'{"a":1}', [], 1.5, 0.25, 7),
    Outcome(8, TaskResultStatus.FAILED, b"", ["a line"], 1.5, 0.25, 2, CAUSE),
    Located(9, "Thread 0x1 (most recent call first):"),
    Beat(0.25),
]

small_text = st.text(max_size=30)
keys = st.integers(0, 2**63 - 1)
to_child = st.lists(
    st.one_of(
        st.builds(Run, keys, st.integers(0, 9), st.binary(max_size=300)),
        st.builds(Cancel, keys),
        st.builds(Locate, keys),
        st.just(Exit()),
    ),
    max_size=8,
)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(edges)]


def read(frame_type: Any, *pieces: bytes) -> list[Any]:
    reader: FrameReader[Any] = FrameReader(frame_type)
    return [frame for piece in pieces for frame in reader.feed(piece)]


@pytest.mark.parametrize("frame", TO_PARENT, ids=lambda frame: type(frame).__name__)
def test_frames_to_the_parent_arrive_as_they_were(frame: Any) -> None:
    assert read(ToParent, encode(frame)) == [frame]


def test_boot_arrives_as_it_was() -> None:
    boot = Boot(
        title="crew",
        workers=[REF],
        imports=["my.module"],
        preparation=Preparation([b"a"], [b"\xff"], b"/"),
        log_levels={"": 20},
    )
    assert read(ToChild, encode(boot)) == [boot]


@given(to_child, st.lists(st.integers(0, 5000), max_size=20))
def test_any_cut_of_the_stream_gives_the_same_frames(frames: list[ToChild], cuts: list[int]) -> None:
    stream = b"".join(map(encode, frames))
    assert read(ToChild, *pieces_of(stream, cuts)) == frames


def test_byte_by_byte() -> None:
    stream = b"".join(map(encode, TO_PARENT))
    assert read(ToParent, *(stream[place : place + 1] for place in range(len(stream)))) == TO_PARENT


def test_half_a_frame_is_kept_for_later() -> None:
    reader: FrameReader[ToParent] = FrameReader(ToParent)
    data = encode(Ready(1))
    assert reader.feed(data[:-1]) == []
    assert reader.feed(data[-1:] + data) == [Ready(1), Ready(1)]


def test_bytes_of_a_frame_do_not_hang_on_to_the_buffer() -> None:
    reader: FrameReader[ToChild] = FrameReader(ToChild)
    (run,) = reader.feed(encode(Run(1, 0, b"x" * 1000)))
    assert reader.feed(encode(Run(2, 0, b"y" * 1000))) == [Run(2, 0, b"y" * 1000)]
    assert run == Run(1, 0, b"x" * 1000)


def test_broken_length_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        read(ToParent, struct.pack("!I", MAX_FRAME + 1))


def test_longest_length_is_awaited() -> None:
    assert read(ToParent, struct.pack("!I", MAX_FRAME)) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x93\xa7unknown\x01\x02", b"\x92\xa5ready\xa1x", encode(Run(1, 0, b""))[4:]],
    ids=["empty", "no msgpack", "unknown tag", "wrong type", "other direction"],
)
def test_payload_that_is_no_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="a frame cannot be read"):
        read(ToParent, struct.pack("!I", len(payload)) + payload)


@given(st.binary(min_size=4, max_size=200))
def test_junk_is_refused_or_awaits_the_rest(junk: bytes) -> None:
    try:
        frames = read(ToParent, junk)
    except ValueError:
        return
    (length,) = struct.unpack_from("!I", junk)
    assert frames == [] or length <= len(junk) - 4
