"""The errors that CloudMart raises deliberately, beside those of the engine.

::

    SagaError
    ├── MigrationFailed        the schema was not migrated, or only in part; the message suggests a remedy
    ├── ArchiveError           a file cannot be used as the archive of pruned data: name another
    └── RequestError           a rejected request; shown to the client
        ├── BadRequest         it cannot be parsed
        ├── Unauthorized       it is for operators, and has no valid credentials
        ├── Forbidden          the feature is disabled here
        ├── Conflict           it conflicts with the current state
        │   └── PriceMismatch  its price differs from the catalogue's
        └── Invalid            a field of it is invalid
"""

from durable_sagas.errors import Conflict as Conflict
from durable_sagas.errors import DatabaseUnavailable as DatabaseUnavailable
from durable_sagas.errors import DefinitionError as DefinitionError
from durable_sagas.errors import NotFound as NotFound
from durable_sagas.errors import Overloaded as Overloaded
from durable_sagas.errors import RequestError as RequestError
from durable_sagas.errors import SagaError as SagaError
from durable_sagas.errors import StepError as StepError
from durable_sagas.errors import StepFailed as StepFailed
from durable_sagas.errors import StepRejected as StepRejected
from durable_sagas.errors import StepUnavailable as StepUnavailable
from durable_sagas.errors import format_error as format_error


class MigrationFailed(SagaError):
    """Raised when the schema could not be migrated; every revision is applied completely or not at all."""


class ArchiveError(SagaError):
    """Raised when a file cannot store pruned rows; nothing was deleted."""


class BadRequest(RequestError):
    """Raised when a request cannot be parsed."""


class Unauthorized(RequestError):
    """Raised when an operator's request lacks valid credentials."""

    status = 401


class Forbidden(RequestError):
    """Raised when a request needs a feature that is disabled in this installation."""

    status = 403


class PriceMismatch(Conflict):
    """Raised when a request's price or amount differs from the catalogue's; ``facts`` has both."""


class Invalid(RequestError):
    """Raised when a request is well formed but one field is invalid."""

    status = 422
