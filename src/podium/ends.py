"""What connects a parent and a child: frames, log records, standard error, testimony."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple, Self

from podium.descriptor import Descriptor
from podium.records import open_channel
from podium.testimony import Testimony


class Ends(NamedTuple):
    """The parent's or the child's ends."""

    frames: socket.socket
    #: For the log records of the child; what comes the other way, from the parent, asks for testimony.
    records: socket.socket
    #: For what the child writes to its standard error.
    errors: Descriptor
    testimony: Testimony

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return the parent's ends and the child's."""
        take_standard_numbers()
        ours, theirs = socket.socketpair()
        our_records, their_records = open_channel()
        our_errors, their_errors = Descriptor.pipe()
        our_testimony, their_testimony = Testimony.pair()
        return (
            cls(ours, our_records, our_errors, our_testimony),
            cls(theirs, their_records, their_errors, their_testimony),
        )

    @classmethod
    def of(cls, *fds: int) -> Self:
        """Take over ends by their file descriptors; programs that are started from here do not get them."""
        for fd in fds:
            os.set_inheritable(fd, False)
        frames, records, errors, testimony = fds
        return cls(
            socket.socket(fileno=frames), socket.socket(fileno=records), Descriptor(errors), Testimony(testimony)
        )

    @property
    def fds(self) -> list[int]:
        """The file descriptors, in the order in which ``of`` takes them; -1 for what is closed."""
        return [end.fileno() for end in self]

    def close(self) -> None:
        """Close all."""
        for end in self:
            end.close()

    def drop(self) -> None:
        """Close what a copy of this process, which was made by a fork, has of these ends, whoever uses them here."""
        for sock in (self.frames, self.records):
            if sock.fileno() != -1:
                os.close(sock.fileno())  # not the object: a transport holds it
        self.errors.close()
        self.testimony.close()


def take_standard_numbers() -> None:
    """Let no connection have the number of a standard stream that the program was started without.

    What is written to that stream would go there, and a child would close it for its own standard error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
