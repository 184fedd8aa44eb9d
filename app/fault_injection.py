"""Inject the faults requested by ``simulate`` in an order, so that recovery can be watched.

Faults are injected where real systems fail: before the work, and after a gateway did it but before its answer arrived.
Requests for faults are ignored unless the settings allow them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app import runtime
from app.errors import StepRejected, StepUnavailable
from app.saga.definition import Command, Operation

LATE = 2.0
"""How many seconds after its deadline a hanging call returns."""

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


def fault_for(command: Command, payload: Mapping[str, Any]) -> Fault | None:
    """Return the fault that a saga's payload requests in this command's service, or None."""
    wanted = payload.get("simulate") or {}
    text = wanted.get(command.service)
    return Fault.parse(text) if text and runtime.current().settings.faults_allowed else None


def inject_before(fault: Fault | None, operation: Operation, attempt: int, deadline: datetime | None) -> None:
    """Inject a fault before the work of an attempt (1, 2, 3 …). Raises StepRejected or StepUnavailable."""
    match fault, operation:
        case Fault("decline"), Operation.ACTION:
            raise StepRejected("declined, as simulated")
        case (Fault("fail", times), Operation.ACTION) | (Fault("undo-fail", times), Operation.COMPENSATION):
            if attempt <= times:
                raise StepUnavailable(f"unavailable, as simulated ({attempt} of {times})")
        case Fault("hang"), Operation.ACTION if deadline and attempt == 1:
            here = runtime.current()
            if here.stopping.wait((deadline - here.now()).total_seconds() + LATE):
                raise StepUnavailable("interrupted while hanging: the process is stopping")


def inject_after(fault: Fault | None, operation: Operation) -> None:
    """Inject a fault after a gateway has answered. Raises StepUnavailable."""
    if fault == Fault("timeout") and operation is Operation.ACTION:
        raise StepUnavailable("no answer from the gateway, as simulated")
