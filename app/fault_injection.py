"""Inject the faults requested by ``simulate`` in an order, so that recovery can be watched.

Faults are injected where real systems fail: before the work, and after a gateway did it but before its answer arrived.
Requests for faults are ignored unless the settings allow them.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from app import runtime
from app.errors import StepRejected, StepUnavailable
from durable_sagas.definition import Operation
from durable_sagas.models import SagaInstance

if TYPE_CHECKING:
    from durable_sagas.deliveries import Attempt

MAX_LATE_SECONDS = 10.0
"""How long after its deadline a hanging call returns at the latest."""

POLL_SECONDS = 0.5
"""The interval at which it looks whether a sweep has handled the deadline."""

SYNTAX = "decline|timeout|hang|(?:undo-)?fail:[1-9][0-9]?"
"""The syntax of a fault, as a regular expression valid in every dialect."""


@dataclass(frozen=True)
class Fault:
    """A fault in one service, for one order.

    ``kind`` is ``decline`` (a business rejection), ``fail`` (a transient fault, ``times`` times), ``timeout`` (a
    gateway does its work but no answer arrives), ``hang`` (no progress until the deadline has passed) or ``undo-fail``
    (a compensation fails ``times`` times).
    """

    kind: str
    times: int = 0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Parse a fault: ``decline``, ``timeout``, ``hang``, ``fail:N`` or ``undo-fail:N``.

        N is from 1 to 99. Raises ValueError.
        """
        if not re.fullmatch(SYNTAX, text):
            raise ValueError("must be decline, timeout, hang, fail:N or undo-fail:N, with N from 1 to 99")
        kind, _, times = text.partition(":")
        return cls(kind, int(times or 0))


def intercept(attempt: "Attempt") -> AbstractContextManager[None] | None:
    """Return what injects the fault that a saga's payload requests in this command's service, or None."""
    fault = requested_fault(attempt)
    return inject(fault, attempt) if fault else None


def requested_fault(attempt: "Attempt") -> Fault | None:
    """Return the fault that a saga's payload requests in this command's service, or None."""
    requested = (attempt.data.get("simulate") or {}).get(attempt.command.service)
    return Fault.parse(requested) if requested and runtime.current().settings.faults_allowed else None


@contextmanager
def inject(fault: Fault, attempt: "Attempt") -> Iterator[None]:
    """Inject a fault before the work of an attempt, or after a gateway has answered it.

    Raises StepRejected or StepUnavailable.
    """
    is_action = attempt.operation is Operation.ACTION
    match fault:
        case Fault("decline") if is_action:
            raise StepRejected("declined, as simulated")
        case Fault("fail", times) if is_action:
            _fail(attempt, times)
        case Fault("undo-fail", times) if not is_action:
            _fail(attempt, times)
        case Fault("hang") if is_action and attempt.saga.deadline_at and attempt.number == 1:
            _hang(attempt.saga.id, attempt.saga.deadline_at)
    yield
    if fault == Fault("timeout") and is_action and attempt.gateway:
        raise StepUnavailable("no answer from the gateway, as simulated")


def _fail(attempt: "Attempt", times: int) -> None:
    if attempt.number <= times:
        raise StepUnavailable(f"unavailable, as simulated ({attempt.number} of {times})")


def _hang(saga_id: str, deadline: datetime) -> None:
    """Wait until a sweep has handled the passed deadline; at most ``MAX_LATE_SECONDS``, if no sweep runs."""
    here = runtime.current()
    wait = (deadline - here.now()).total_seconds()
    while not here.stopping.wait(max(wait, POLL_SECONDS)):
        with here.database.reading() as session:
            current = session.scalar(select(SagaInstance.deadline_at).where(SagaInstance.id == saga_id))
        if current is None or here.now() - current > timedelta(seconds=MAX_LATE_SECONDS):
            return
        wait = (current - here.now()).total_seconds()  # it counts from when the call began
    raise StepUnavailable("interrupted while hanging: the process is stopping")
