"""The errors that CloudMart raises deliberately; the class determines how each is handled.

::

    CloudMartError
    ├── DefinitionError        a saga, step or reaction is declared wrongly: fix the code
    ├── StepError              raised by a service's action or compensation
    │   ├── StepRejected       a business rejection: never retried, the saga is compensated
    │   └── StepUnavailable    a transient fault: retried by the step's RetryPolicy, then compensated
    ├── DatabaseUnavailable    a fault of the database and not of the caller: retry
    ├── MigrationFailed        the schema was not migrated, or only in part; the message suggests a remedy
    ├── ArchiveError           a file cannot be used as the archive of pruned data: name another
    ├── StepFailed             ends a step's task: Celery calls the saga's error callback
    └── Refused                a rejected request; shown to the client
        ├── BadRequest         it cannot be parsed
        ├── Unauthorized       it is for operators, and has no valid credentials
        ├── Forbidden          the feature is disabled here
        ├── NotFound           what it names does not exist
        ├── Conflict           it conflicts with the current state
        │   └── PriceMismatch  its price differs from the catalogue's
        └── Invalid            a field of it is invalid

Any other exception of a step is treated like ``StepUnavailable``: its cause is unknown, and so is the outcome.
"""

from typing import ClassVar

from pydantic import ValidationError

from app.messages import Reply


class CloudMartError(Exception):
    """Base class of all errors raised deliberately."""


class DefinitionError(CloudMartError):
    """Raised when a saga, step or reaction is declared in a way that could not be compensated."""


class StepError(CloudMartError):
    """Raised by a service when a step failed."""


class StepRejected(StepError):
    """Raised when a step is rejected for a business reason; a retry would not help."""


class StepUnavailable(StepError):
    """Raised when a step cannot be executed now; its outcome may be unknown."""


class DatabaseUnavailable(CloudMartError):
    """Raised when the database did not answer, or aborted what was requested.

    The work was not done, unless the answer to a commit was lost. So it is retried by something idempotent: the same
    message, or the same request with its idempotency key.

    ``sqlstate`` is PostgreSQL's code, if the server sent one.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class MigrationFailed(CloudMartError):
    """Raised when the schema could not be migrated; every revision is applied completely or not at all."""


class ArchiveError(CloudMartError):
    """Raised when a file cannot store pruned rows; nothing was deleted."""


class StepFailed(CloudMartError):
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


class Refused(CloudMartError):
    """Raised when a request is rejected. ``field`` names the invalid part of the request, if there is one."""

    status: ClassVar[int] = 400

    def __init__(self, detail: str, *, field: str | None = None, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.facts = facts


class BadRequest(Refused):
    """Raised when a request cannot be parsed."""


class Unauthorized(Refused):
    """Raised when an operator's request lacks valid credentials."""

    status = 401


class Forbidden(Refused):
    """Raised when a request needs a feature that is disabled in this installation."""

    status = 403


class NotFound(Refused):
    """Raised when a request names something that does not exist."""

    status = 404


class Conflict(Refused):
    """Raised when a request conflicts with the current state."""

    status = 409


class PriceMismatch(Conflict):
    """Raised when a request's price or amount differs from the catalogue's; ``facts`` has both."""


class Invalid(Refused):
    """Raised when a request is well formed but one field is invalid."""

    status = 422


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
