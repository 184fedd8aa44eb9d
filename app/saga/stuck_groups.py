"""Groups of stuck sagas: stuck on the same step, with the same class of error."""

import re
from dataclasses import dataclass
from datetime import datetime

from app.saga.definition import SagaStatus
from app.saga.models import SagaInstance

_TASK = re.compile(r"\w+\.\w+")
_TYPE = re.compile(r"^([A-Z]\w*): ")
_DETAIL = re.compile(r"""'[^']*'|"[^"]*"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+(?:[.,:]\d+)*""")

MAX_CLASS_LENGTH = 200


def error_class(reason: str | None, step: str | None) -> str:
    """Return the class of the error that a saga is stuck on: the exception's type where the reason names one.

    Our own errors are written without their type. Of those it is the text without what differs from saga to saga:
    numbers, ids and quoted values. The task or step at the beginning is left out: a group has its step anyway, and the
    two patterns have tasks of their own for it.
    """
    failed, _, rest = (reason or "").partition(": ")
    text = rest if failed == step or _TASK.fullmatch(failed) else reason or ""
    named = _TYPE.match(text)
    return named[1] if named else _DETAIL.sub("…", text)[:MAX_CLASS_LENGTH]


@dataclass(frozen=True)
class StuckGroup:
    """The sagas that are stuck on a step with a class of error; ``until`` leaves out what got stuck after that."""

    step: str
    error: str
    until: datetime | None = None

    def holds(self, saga: SagaInstance) -> bool:
        """Return whether a saga is one of them."""
        return (
            saga.status == SagaStatus.STUCK
            and saga.current_step == self.step
            and error_class(saga.stuck_reason, self.step) == self.error
            and (self.until is None or saga.updated_at <= self.until)
        )
