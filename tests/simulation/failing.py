"""Faults in single commands: the shop's ``simulate`` breaks a whole service, these break one thing that it can do."""

from collections.abc import Mapping
from typing import Any

import pytest

from app import fault_injection
from app.fault_injection import Fault
from app.saga.definition import Command

_simulated, _strike = fault_injection.fault_for, fault_injection.inject_before


def break_command(patch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    """Have one command fail as described; a ``decline`` strikes once, the next time the command works."""
    struck: list[Fault | None] = []

    def fault_for(command: Command, payload: Mapping[str, Any]) -> Fault | None:
        if command.name != name:
            return _simulated(command, payload)
        return None if fault.kind == "decline" and fault in struck else fault

    def inject_before(given: Fault | None, *when: Any) -> None:
        struck.append(given)
        _strike(given, *when)

    patch.setattr(fault_injection, "inject_before", inject_before)
    patch.setattr(fault_injection, "fault_for", fault_for)
