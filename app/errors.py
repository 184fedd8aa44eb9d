"""Every error CloudMart raises on purpose; the class says what happens next.

::

    CloudMartError
    ├── DefinitionError        a saga, step or reaction is declared wrongly: fix the code
    ├── StepError              raised by a service's action or compensation
    │   ├── StepRejected       a business no: never retried, the saga is undone
    │   └── StepUnavailable    a transient fault: retried by the step's RetryPolicy, then undone
    ├── DatabaseUnavailable    the database did not do what it was asked: no fault of whoever asked, ask again
    ├── MigrationFailed        the schema was not changed, or not to the end; says what would help
    ├── ArchiveError           a file cannot be the archive of what is pruned: name another
    ├── StepFailed             what a step's task ends with: Celery calls the saga's error callback
    └── Refused                a request that cannot be honoured; shown to whoever asked
        ├── BadRequest         it cannot be read
        ├── Unauthorized       it is an operator's, and whoever sends it has not shown to be one
        ├── Forbidden          it is switched off here
        ├── NotFound           what it names does not exist
        ├── Conflict           it does not fit the present state
        │   └── PriceMismatch      it names another price than the catalogue
        └── Invalid            a field of it is wrong

Anything else that a step raises is treated like ``StepUnavailable``: the cause is unknown, so is the outcome.
"""

from typing import ClassVar

from pydantic import ValidationError

from app.messages import Reply


class CloudMartError(Exception):
    """The root of the tree above."""


class DefinitionError(CloudMartError):
    """Raised when a saga, a step or a reaction is declared in a way that could not be undone."""


class StepError(CloudMartError):
    """Raised by a service when a step did not do what was asked."""


class StepRejected(StepError):
    """Raised when a step says no for a business reason; asking again would not help."""


class StepUnavailable(StepError):
    """Raised when a step could not be done now; its outcome may be unknown."""


class DatabaseUnavailable(CloudMartError):
    """Raised when the database did not answer, or gave up what it was asked.

    What was asked was not done, unless the answer to a commit was lost; so it is asked again by something that may be
    repeated: the same message, or the same request with its idempotency key.

    ``sqlstate`` is PostgreSQL's code, if the server sent one.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class MigrationFailed(CloudMartError):
    """Raised when the database's schema could not be changed; every revision is there as a whole or not at all."""


class ArchiveError(CloudMartError):
    """Raised when a file cannot take what is pruned; nothing was deleted."""


class StepFailed(CloudMartError):
    """Raised by a step's task once no retry is left; carries the step's reply.

    The reply is the only argument, so that the error survives the way between the processes of a pool.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply

    def __str__(self) -> str:
        return f"{self.reply.step}: {self.reply.error}"

    def __repr__(self) -> str:
        # what Flower shows of a task that failed: one line, and what went wrong at its beginning
        return f"StepFailed({str(self)!r})"


class Refused(CloudMartError):
    """Raised when a request is not honoured. ``field`` names the part of the request at fault, if one is."""

    status: ClassVar[int] = 400

    def __init__(self, detail: str, *, field: str | None = None, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.facts = facts


class BadRequest(Refused):
    """Raised when a request cannot be read at all."""


class Unauthorized(Refused):
    """Raised when a request is an operator's and does not carry what shows that an operator sent it."""

    status = 401


class Forbidden(Refused):
    """Raised when a request asks for what this installation has switched off."""

    status = 403


class NotFound(Refused):
    """Raised when a request names something that does not exist."""

    status = 404


class Conflict(Refused):
    """Raised when a request does not fit the present state."""

    status = 409


class PriceMismatch(Conflict):
    """Raised when a request names a price or an amount that is not the catalogue's; the facts give both."""


class Invalid(Refused):
    """Raised when a request is well formed and yet wrong in one field."""

    status = 422


def format_error(error: Exception) -> str:
    """Return in short what went wrong, an unforeseen error with its class, so that it can be found.

    What did not fit its form is not repeated: it may be a megabyte, or somebody's address.
    """
    if isinstance(error, StepError):
        return str(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:3])
    return f"{type(error).__name__}: {error}"[:500]
