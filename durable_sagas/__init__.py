"""Durable sagas on plain Celery: an action beside its compensation, and effect and log in one commit.

``Sagas`` binds the engine to an application's own Celery app and SQLAlchemy sessions.
"""

from durable_sagas.admission import AdmissionStatus
from durable_sagas.choreography import Choreography
from durable_sagas.database import Database
from durable_sagas.definition import (
    COMPENSATION_STARTED,
    COMPLETED,
    FAILED,
    STARTED,
    Command,
    Guard,
    RetryPolicy,
    Saga,
    SagaStatus,
    Step,
    after,
)
from durable_sagas.deliveries import Attempt
from durable_sagas.errors import (
    Conflict,
    DatabaseUnavailable,
    DefinitionError,
    NotFound,
    Overloaded,
    RequestError,
    SagaError,
    StepError,
    StepFailed,
    StepRejected,
    StepUnavailable,
)
from durable_sagas.history import History
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.messages import Event, EventType, Reply
from durable_sagas.models import SagaInstance, StoredEvent
from durable_sagas.options import Options
from durable_sagas.orchestrator import OrchestratedSaga
from durable_sagas.reactions import Abort, Compensate, Decision, Execute
from durable_sagas.recovery import SweepResult
from durable_sagas.sagas import Sagas
from durable_sagas.signals import SagaSignal, SignalType

__all__ = [
    "COMPENSATION_STARTED",
    "COMPLETED",
    "FAILED",
    "STARTED",
    "Abort",
    "AdmissionStatus",
    "Attempt",
    "Choreography",
    "Command",
    "Compensate",
    "Conflict",
    "Database",
    "DatabaseUnavailable",
    "Decision",
    "DefinitionError",
    "Event",
    "EventType",
    "Execute",
    "Guard",
    "History",
    "ManualCompletion",
    "NotFound",
    "Options",
    "OrchestratedSaga",
    "Overloaded",
    "Reply",
    "RequestError",
    "RetryPolicy",
    "Saga",
    "SagaError",
    "SagaInstance",
    "SagaSignal",
    "SagaStatus",
    "Sagas",
    "SignalType",
    "Step",
    "StepError",
    "StepFailed",
    "StepRejected",
    "StepUnavailable",
    "StoredEvent",
    "SweepResult",
    "after",
]
