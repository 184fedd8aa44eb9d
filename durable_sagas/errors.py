"""The errors of the engine; the class determines how each is handled.

::

    SagaError
    ├── DefinitionError        a saga, step or reaction is declared wrongly: fix the code
    ├── StepError              raised by a service's action or compensation
    │   ├── StepRejected       a business rejection: never retried, the saga is compensated
    │   └── StepUnavailable    a transient fault: retried by the step's RetryPolicy, then compensated
    ├── DatabaseUnavailable    a fault of the database and not of the caller: retry
    ├── StepFailed             ends a step's task: Celery calls the saga's error callback
    └── RequestError           a rejected request
        ├── NotFound           what it names does not exist
        ├── Conflict           it conflicts with the current state
        └── Overloaded         too many sagas are unfinished: retry later

Any other exception of a step is treated like ``StepUnavailable``: its cause is unknown, and so is the outcome.
"""

from typing import ClassVar

from pydantic import ValidationError

from durable_sagas.messages import Reply


class SagaError(Exception):
    """Base class of all errors raised deliberately."""


class DefinitionError(SagaError):
    """Raised when a saga, command, step or reaction is declared wrongly: it could not be compensated, for instance."""


class StepError(SagaError):
    """Raised by a service when a step failed."""


class StepRejected(StepError):
    """Raised when a step is rejected for a business reason; a retry would not help."""


class StepUnavailable(StepError):
    """Raised when a step cannot be executed now; its outcome may be unknown."""


class DatabaseUnavailable(SagaError):
    """Raised when the database did not answer, or aborted what was requested.

    The work was not done, unless the answer to a commit was lost. So it is retried by something idempotent: the same
    message, or the same request with its idempotency key.

    ``sqlstate`` is PostgreSQL's code, if the server sent one.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StepFailed(SagaError):
    """Raised by a step's task once no retry is left; carries the step's reply.

    The reply is the only argument, so that the exception can be pickled between the processes of a pool.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply

    def __str__(self) -> str:
        return f"{self.reply.step}: {self.reply.error}"

    def __repr__(self) -> str:
        # Flower shows this for a failed task: one line that starts with the cause
        return f"StepFailed({str(self)!r})"


class RequestError(SagaError):
    """Raised when a request is rejected. ``field`` names the invalid part of the request, if there is one."""

    status: ClassVar[int] = 400
    """The HTTP status that corresponds to it."""

    def __init__(self, detail: str, *, field: str | None = None, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.facts = facts


class NotFound(RequestError):
    """Raised when a request names something that does not exist."""

    status = 404


class Conflict(RequestError):
    """Raised when a request conflicts with the current state."""

    status = 409


class Overloaded(RequestError):
    """Raised when too many sagas are unfinished to start another one. Nothing was stored: retry later.

    ``retry_after`` is when, in whole seconds; it is among the facts, too.
    """

    status = 503

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too much is waiting to be served, try again in {retry_after} s", retry_after=retry_after)
        self.retry_after = retry_after


def format_error(error: Exception) -> str:
    """Return a short description of an error; for an unexpected one it starts with the class name.

    Invalid input is not repeated: it may be a megabyte, or personal data.
    """
    if isinstance(error, StepError):
        return str(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:3])
    return f"{type(error).__name__}: {error}"[:500]
