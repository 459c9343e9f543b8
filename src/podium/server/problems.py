"""Refusals: what becomes an error answer with Conductor's error body."""

from __future__ import annotations

import socket
from typing import Any

_HOST = socket.gethostname()


class Problem(Exception):  # noqa: N818 - it is an answer to the client, not a fault of the server
    """A request that is answered with an error status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        return {"status": self.status, "message": self.message, "instance": _HOST, "retryable": False}


class InvalidError(Problem):
    """Fields break the rules of the API: 400 with one entry per complaint.

    ``errors`` holds (path, message, invalid value or None).
    """

    def __init__(self, errors: list[tuple[str, str, str | None]]) -> None:
        super().__init__(400, "Validation failed, check below errors for detail.")
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer; unlike the others it names no instance."""
        entries = [
            {"path": path, "message": message} | ({} if value is None else {"invalidValue": value})
            for path, message, value in self.errors
        ]
        return {"status": self.status, "message": self.message, "retryable": False, "validationErrors": entries}


def parse_problem(detail: str) -> Problem:
    """Return the refusal of a body that is not the JSON that was expected; the real server calls that a 500."""
    return Problem(500, f"JSON parse error: {detail}")


def no_such_workflow(workflow_id: str) -> Problem:
    """Return the refusal of an unknown workflow id."""
    return Problem(404, f"No such workflow found by id: {workflow_id}")
