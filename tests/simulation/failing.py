"""Faults in single commands: the shop's ``simulate`` breaks a whole service, these break one thing that it can do."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from app import faults
from app.faults import Fault
from app.saga.definition import Command

_simulated = faults.fault_for


def break_command(patch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    """Have one command fail as described; a ``decline`` strikes once, the next time the command works."""
    asked: Counter[str] = Counter()

    def fault_for(command: Command, payload: Mapping[str, Any]) -> Fault | None:
        if command.name != name:
            return _simulated(command, payload)
        asked[name] += 1
        return None if fault.kind == "decline" and asked[name] > 1 else fault

    patch.setattr(faults, "fault_for", fault_for)
