"""Faults in single commands: the shop's ``simulate`` breaks a whole service, these break one thing that it can do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app import fault_injection
from app.fault_injection import Fault
from durable_sagas.deliveries import Attempt

_requested, _inject = fault_injection.requested_fault, fault_injection.inject


def break_command(patch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    """Have one command fail as described; a ``decline`` is injected once, the next time the command works."""
    injected: list[Fault] = []

    def requested_fault(attempt: Attempt) -> Fault | None:
        if attempt.command.name != name:
            return _requested(attempt)
        return None if fault.kind == "decline" and fault in injected else fault

    @contextmanager
    def inject(given: Fault, attempt: Attempt) -> Iterator[None]:
        injected.append(given)
        with _inject(given, attempt):
            yield

    patch.setattr(fault_injection, "inject", inject)
    patch.setattr(fault_injection, "requested_fault", requested_fault)
