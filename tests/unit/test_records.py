"""What a record becomes on its way to the parent, and what the way itself promises."""

from __future__ import annotations

import copy
import logging
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import Task
from podium.context import TaskContext, _current
from podium.records import (
    MAX_RECORD,
    TASK_FIELDS_ON_RECORDS,
    RecordSender,
    TaskRecords,
    decode_record,
    encode_record,
    open_channel,
    plain_fields,
)

FIELDS = {"task_id": "t1", "workflow_id": "w1", "task_type": "ship", "attempt": 2}


def record(message: object = "text", *args: object, **attached: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.logger", logging.INFO, "file.py", 7, message, args, None)
    vars(made).update(attached)
    return made


def arrived(sent: logging.LogRecord) -> logging.LogRecord:
    message = encode_record(plain_fields(sent))
    assert len(message) <= MAX_RECORD
    return logging.makeLogRecord(decode_record(message))


class Channel:
    def __init__(self) -> None:
        self.ours, self.theirs = open_channel()
        self.sender = RecordSender(self.theirs)

    def read(self, most: int = 1_000_000) -> list[str]:
        texts: list[str] = []
        while len(texts) < most:
            try:
                message = self.ours.recv(MAX_RECORD)
            except BlockingIOError:
                break
            texts.append(logging.makeLogRecord(decode_record(message)).getMessage())
        return texts


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.ours.close()
    made.theirs.close()


@pytest.fixture
def in_a_task() -> Iterator[None]:
    task = Task(task_id="t1", workflow_instance_id="w1", task_def_name="ship", retry_count=2)
    before = _current.set(TaskContext(task))
    yield
    _current.reset(before)


# the message


def test_record_arrives_as_it_was() -> None:
    made = record("%s is %d", "a", 1, order="o1", pair=[1, None], data=b"\xff")
    got = arrived(made)
    assert (got.getMessage(), got.args) == ("a is 1", None)
    for name in ("name", "levelno", "lineno", "created", "process", "threadName", "order", "pair", "data"):
        assert vars(got)[name] == vars(made)[name]


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def _cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**70, str(2**70)),
        ("bad \ud800", "bad \\ud800"),
        (["\ud800"], "['\\ud800']"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (_cycle(), "[[...]]"),
        (_MuteError(), "<_MuteError whose __str__ raised RuntimeError>"),
    ],
    ids=["big integer", "surrogate", "surrogate inside", "odd key", "cycle", "mute"],
)
def test_value_that_no_message_can_carry_goes_as_text_and_takes_no_other_along(value: object, text: str) -> None:
    got = vars(arrived(record("m", bad=value, good=[1, "a"])))
    assert got["bad"] == text
    assert (got["good"], got["msg"]) == ([1, "a"], "m")


def test_arguments_that_do_not_fit_are_shown() -> None:
    text = arrived(record("%d of %d", 1)).getMessage()
    assert text.startswith("%d of %d (its arguments (1,) do not fit: TypeError: ")


def test_traceback_goes_along() -> None:
    made = record("m")
    try:
        int("why")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    got = arrived(made)
    assert got.exc_info is None
    assert got.exc_text is not None
    assert got.exc_text.endswith("with base 10: 'why'")


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f600", "\ud800"])
def test_long_text_is_cut_and_says_so(letter: str) -> None:
    text = arrived(record("begin " + letter * 2_000_000 + " end", order="o1")).getMessage()
    assert text.startswith("begin ")
    assert text.endswith(" end")
    assert " characters left out ... " in text


def test_record_with_too_much_attached_arrives_without_it_and_says_so() -> None:
    got = arrived(record("m", task_id="t1", **{f"key{number}": "x" * 900 for number in range(1000)}))
    assert got.getMessage() == "m ... 1000 fields of this record were left out, it was too long"
    assert vars(got)["task_id"] == "t1"
    assert "key0" not in vars(got)


def test_large_values_of_other_kinds_are_cut_too() -> None:
    got = vars(arrived(record("m", rows=list(range(100_000)), name="short")))
    assert got["rows"].startswith("[0, 1, 2,")
    assert " characters left out ... " in got["rows"]
    assert (got["msg"], got["name"]) == ("m", "short")


@given(
    st.text(st.characters(), max_size=2000),
    st.dictionaries(
        st.text(max_size=20).map("x_{}".format),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
            max_leaves=10,
        ),
        max_size=5,
    ),
)
def test_any_record_arrives(message: str, attached: dict[str, Any]) -> None:
    got = arrived(record(message.replace("%", "%%"), **attached))
    assert got.name == "some.logger"


# the channel


def test_records_wait_in_the_channel_until_they_are_read(channel: Channel) -> None:
    for number in range(50):
        channel.sender.handle(record("%d", number))
    assert channel.read() == [str(number) for number in range(50)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.records.SEND_SECONDS", 1)


@pytest.mark.usefixtures("impatient")
def test_record_that_nobody_takes_is_dropped_and_counted_in_a_later_one() -> None:
    channel = Channel()
    total = 2000
    for number in range(total):  # one of them waits, and those that follow do not
        channel.sender.handle(record("%d %s", number, "x" * 500))
    texts = channel.read()
    assert 0 < len(texts) < total
    channel.sender.handle(record("afterwards"))
    notice, last = channel.read()
    assert notice == (
        f"{total - len(texts)} log records of this process were dropped, because nobody took them within 1 s"
    )
    assert last == "afterwards"
    channel.sender.handle(record("and so on"))
    assert channel.read() == ["and so on"]
    channel.ours.close()
    channel.theirs.close()


def test_parent_that_is_gone_fails_no_one(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    channel.ours.close()
    channel.sender.handle(record("nobody hears it"))
    assert capsys.readouterr().err == ""


def test_system_that_takes_shorter_messages_only_gets_a_short_one(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow:
        def send(self, data: bytes, flags: int) -> int:
            if len(data) > 5000:
                raise OSError(90, "Message too long")
            return channel.theirs.send(data, flags)

    monkeypatch.setattr("errno.EMSGSIZE", 90)
    monkeypatch.setattr(channel.sender, "_channel", Narrow())
    channel.sender.handle(record("begin " + "x" * 10_000, order="o1"))
    (text,) = channel.read()
    assert text.startswith("begin ")
    assert text.endswith(" ... 1 fields of this record were left out, it was too long")


# the fields


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.Logger("a.logger")  # noqa: LOG001 - one that nobody else sees
    factory = logging.getLogRecordFactory()
    TASK_FIELDS_ON_RECORDS.add()
    yield logger
    TASK_FIELDS_ON_RECORDS.remove()
    assert logging.getLogRecordFactory() is factory


def made_by(logger: logging.Logger, extra: dict[str, Any] | None = None) -> logging.LogRecord:
    return logger.makeRecord(logger.name, logging.INFO, "file.py", 7, "m", (), None, extra=extra)


@pytest.mark.usefixtures("in_a_task")
def test_record_inside_a_task_has_its_fields(log: logging.Logger) -> None:
    made = made_by(log)
    assert vars(made).items() >= FIELDS.items()
    assert made.task_id == "t1"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("in_a_task")
def test_fields_that_the_user_attaches_win(log: logging.Logger) -> None:
    made = made_by(log, {"task_id": "mine", "order": 1})
    assert vars(made).items() >= (FIELDS | {"task_id": "mine", "order": 1}).items()


@pytest.mark.usefixtures("in_a_task")
@pytest.mark.parametrize("name", ["levelno", "message", "thread"])
def test_what_logging_refuses_is_refused_as_ever(log: logging.Logger, name: str) -> None:
    with pytest.raises(KeyError, match="overwrite"):
        made_by(log, {name: 1})


@pytest.mark.usefixtures("in_a_task")
def test_record_can_be_copied_pickled_and_formatted(log: logging.Logger) -> None:
    made = made_by(log, {"task_id": "mine"})
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), arrived(made)):
        assert vars(other).items() >= (FIELDS | {"task_id": "mine"}).items()
    assert b"podium" not in pickle.dumps(made)
    assert logging.Formatter("{task_id} {attempt}", style="{").format(made) == "mine 2"


def test_record_outside_a_task_is_what_it_was(log: logging.Logger) -> None:
    made = made_by(log)
    assert type(vars(made)) is dict
    assert not vars(made).keys() & FIELDS.keys()


@pytest.mark.usefixtures("in_a_task")
def test_factory_of_the_application_does_its_work_and_comes_back() -> None:
    class Own(logging.LogRecord):
        pass

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        TASK_FIELDS_ON_RECORDS.add()
        TASK_FIELDS_ON_RECORDS.add()
        made = made_by(logging.Logger("x"))  # noqa: LOG001
        assert isinstance(made, Own)
        assert vars(made).items() >= FIELDS.items()
        TASK_FIELDS_ON_RECORDS.remove()
        assert isinstance(logging.getLogRecordFactory(), TaskRecords)
        TASK_FIELDS_ON_RECORDS.remove()
        assert logging.getLogRecordFactory() is Own
    finally:
        logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("in_a_task")
def test_factory_that_was_put_on_top_stays() -> None:
    before = logging.getLogRecordFactory()
    try:
        for _ in range(3):
            TASK_FIELDS_ON_RECORDS.add()
            below = logging.getLogRecordFactory()

            def on_top(*args: Any, below: Any = below, **kwargs: Any) -> logging.LogRecord:
                return below(*args, **kwargs)  # type: ignore[no-any-return]

            logging.setLogRecordFactory(on_top)
            assert vars(made_by(logging.Logger("x"))).items() >= FIELDS.items()  # noqa: LOG001
            TASK_FIELDS_ON_RECORDS.remove()
            assert logging.getLogRecordFactory() is on_top
    finally:
        logging.setLogRecordFactory(before)


def test_channel_keeps_messages_apart() -> None:
    ours, theirs = open_channel()
    with ours, theirs:
        assert ours.type & 0xF in {socket.SOCK_SEQPACKET, socket.SOCK_DGRAM}
        theirs.send(b"a" * MAX_RECORD)
        theirs.send(b"b")
        assert [ours.recv(MAX_RECORD) for _ in range(2)] == [b"a" * MAX_RECORD, b"b"]
