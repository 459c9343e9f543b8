"""Every exception that podium raises or gives a meaning to.

    PodiumError
    |-- DeclarationError          a worker, its function or its options are declared wrongly
    |-- ConfigError               an argument, environment variable or setting is wrong
    |-- NoTaskContextError        get_task_context() was called outside a task
    |-- ConversionError           a value does not fit its type; names the path
    |   `-- UnfitTaskError        a part of a task that its function asks for; not retried either
    |-- StartError                a crew could not start
    |-- NoWorkerLeftError         every worker process has died for good
    |-- TaskFailedError           why a task failed, for event listeners
    |-- SupersededError           a result came too late: the server had given its task up
    |-- TransportError            no usable answer arrived
    |   |-- ConnectError          nothing was sent: refused, DNS, TLS, proxy
    |   |-- CutError              the connection broke after the request left
    |   |-- TimeoutExceededError  no answer within the time limit
    |   `-- AnswerError           an answer arrived that is not Conductor's
    `-- ApiError                  the server answered with an error status
        |-- BadRequestError       400, 405, 409 excluded: the request is wrong
        |-- AuthError             401, 403
        |-- NotFoundError         404
        |-- ConflictError         409
        |-- RateLimitedError      429; may say when to come back
        `-- ServerError           5xx
    NonRetryableException         raised by users: fail the task for good

Whether a failed call may succeed when repeated is the property ``retryable``, never a ladder of isinstance checks.
"""

from __future__ import annotations

from typing import ClassVar


class PodiumError(Exception):
    """Base of all errors of podium."""


class NonRetryableException(Exception):  # noqa: N818 - the name is conductor-python's public one
    """Raise it in a task to fail it with FAILED_WITH_TERMINAL_ERROR: the server will not retry it."""


class DeclarationError(PodiumError, ValueError):
    """A worker is declared in a way that could never run; the message names the fix."""


class ConfigError(PodiumError, ValueError):
    """A setting is missing, unknown or out of range; the message names setting, value and what is allowed."""


class NoTaskContextError(PodiumError, RuntimeError):
    """``get_task_context()`` was called where no task is running."""


class StartError(PodiumError, RuntimeError):
    """A crew could not start: the user's module failed to import, or a child did not come up."""


class NoWorkerLeftError(PodiumError, RuntimeError):
    """Every worker process has died, and none is to be started any more: see ``restart_max_attempts``."""


class ConversionError(PodiumError, ValueError):
    """A value does not fit the declared type, or cannot be JSON.

    ``path`` says where, in the notation of the message: ``order.items[2].sku``.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class UnfitTaskError(ConversionError, NonRetryableException):
    """A part of a task that its function asks for, other than the input, is not what a server sends."""


class TaskFailedError(PodiumError):
    """Why a task failed, as listeners see it: the exception itself stayed in the process where it was raised.

    ``type_name`` is the class name of that exception, ``message`` its text, ``traceback`` its traceback as text.
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class SupersededError(PodiumError):
    """A result came too late: the server had given the task up, and may have had it done again."""


class TransportError(PodiumError):
    """No usable answer arrived from the server."""

    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = True
    #: Whether the server may have received and applied the request.
    maybe_applied: ClassVar[bool] = True


class ConnectError(TransportError):
    """The server could not be reached; the request was not sent."""

    maybe_applied: ClassVar[bool] = False


class CutError(TransportError):
    """The connection broke before the whole answer arrived."""


class TimeoutExceededError(TransportError, TimeoutError):
    """No answer arrived within the time limit."""


class AnswerError(TransportError):
    """The answer is not what a Conductor server sends: not JSON, a redirect, a login page, too large."""


#: Messages of status 500 that the real server gives for requests which can never succeed.
_HOPELESS_500 = ("JSON parse error", "Required request", "Validation failed for argument", "Content-Type")


class ApiError(PodiumError):
    """The server answered with an error status.

    ``status`` is the HTTP status, ``message`` the server's text, ``method`` and ``path`` name the call, ``origin`` is
    the API's URL without credentials; ``advice`` is what podium adds to the error's text and not to ``message``;
    ``validation_errors`` lists the server's complaints about single fields, ``retry_after`` is the server's wish
    in seconds or None, ``code`` is the ``error`` field that gateways set (EXPIRED_TOKEN, INVALID_TOKEN).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        method: str = "",
        path: str = "",
        origin: str = "",
        advice: str = "",
        server_retryable: bool = False,
        validation_errors: tuple[str, ...] = (),
        retry_after: float | None = None,
        code: str | None = None,
    ) -> None:
        where = f"{method} {origin}{path}: " if method else ""
        details = f" ({'; '.join(validation_errors)})" if validation_errors else ""
        super().__init__(f"{where}{status} {message}{details}{advice and '; '}{advice}")
        self.status = status
        self.message = message
        self.method = method
        self.path = path
        self.origin = origin
        self.advice = advice
        self.server_retryable = server_retryable
        self.validation_errors = validation_errors
        self.retry_after = retry_after
        self.code = code

    @property
    def retryable(self) -> bool:
        """Whether repeating the same request may succeed.

        Conductor answers 500 for many mistakes of the client too, and says ``retryable: false`` even for faults of
        its own, so the status alone decides, except for texts that are known to name a broken request.
        """
        if self.server_retryable or self.status in {408, 425, 429}:
            return True
        return self.status >= 500 and not self.message.startswith(_HOPELESS_500)

    @classmethod
    def of(cls, status: int) -> type[ApiError]:
        """Return the class that stands for an HTTP status."""
        if status >= 500:
            return ServerError
        return {401: AuthError, 403: AuthError, 404: NotFoundError, 409: ConflictError, 429: RateLimitedError}.get(
            status, BadRequestError
        )


class BadRequestError(ApiError):
    """The request itself is wrong (400 and other 4xx)."""


class AuthError(ApiError):
    """The server refused the credentials or the token (401, 403)."""


#: Beginnings of the messages with which a server says that it knows a task, or its workflow, not or no more.
_UNKNOWN_TASK = ("Task not found", "No such task", "No such workflow")


class NotFoundError(ApiError):
    """What the request names does not exist (404)."""

    @property
    def means_task(self) -> bool:
        """Whether the server itself says that it does not know a task or workflow.

        A 404 in other words may be a gateway's that has no server behind it just now, and tells nothing of them.
        """
        return self.message.startswith(_UNKNOWN_TASK)


class ConflictError(ApiError):
    """The request does not fit the current state (409)."""


class RateLimitedError(ApiError):
    """The server asks for fewer requests (429)."""


class ServerError(ApiError):
    """The server failed (5xx)."""
