"""Group stuck sagas by step and class of error."""

import re
from dataclasses import dataclass
from datetime import datetime

from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance

_TASK = re.compile(r"\w+\.\w+")
_TYPE = re.compile(r"^([A-Z]\w*): ")
_DETAIL = re.compile(r"""'[^']*'|"[^"]*"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+(?:[.,:]\d+)*""")

MAX_CLASS_LENGTH = 200


def error_class(reason: str | None, step: str | None) -> str:
    """Return the error class of a stuck saga: the exception's type where the reason names one.

    Our own errors are written without their type. For those it is the text without what varies between sagas: numbers,
    ids and quoted values. The task or step at the beginning is left out: a group has its step anyway, and the task's
    name differs between the two patterns.
    """
    failed, _, rest = (reason or "").partition(": ")
    text = rest if failed == step or _TASK.fullmatch(failed) else reason or ""
    named = _TYPE.match(text)
    return named[1] if named else _DETAIL.sub("…", text)[:MAX_CLASS_LENGTH]


@dataclass(frozen=True)
class StuckGroup:
    """The sagas stuck on a step with an error class; ``until`` excludes sagas that got stuck later."""

    step: str
    error: str
    until: datetime | None = None

    def holds(self, saga: SagaInstance) -> bool:
        """Return whether a saga belongs to the group."""
        return (
            saga.status == SagaStatus.STUCK
            and saga.current_step == self.step
            and error_class(saga.stuck_reason, self.step) == self.error
            and (self.until is None or saga.updated_at <= self.until)
        )
