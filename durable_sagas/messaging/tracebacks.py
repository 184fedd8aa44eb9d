"""Truncate tracebacks of expected failures: errors that a task declares (``throws``).

A rejected step is a business outcome, and its message is sufficient. Celery copies all code positions of every frame of
a traceback; its own tracer is a frame of a thousand lines, and copying it took as long as a step.
"""

from types import TracebackType
from typing import Any

from celery import Celery
from celery.app.trace import TraceInfo, build_tracer


class BriefInfo(TraceInfo):
    """Celery's record of a failed task, with the traceback of a declared error cut to its innermost frame."""

    __slots__ = ()

    def handle_failure(self, task: Any, req: Any, store_errors: bool = True, call_errbacks: bool = True) -> Any:
        """Handle the failure of a task like Celery."""
        if isinstance(self.retval, task.throws):
            self.retval.__traceback__ = _innermost(self.retval.__traceback__)
        return super().handle_failure(task, req, store_errors, call_errbacks)


def be_brief(app: Celery, hostname: str | None) -> None:
    """Install this tracer for tasks that declare errors; call it after Celery has set up its own tracers."""
    for name, task in app.tasks.items():
        if task.throws:
            task.__trace__ = build_tracer(name, task, app.loader, hostname, Info=BriefInfo, app=app)


def _innermost(traceback: TracebackType | None) -> TracebackType | None:
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return traceback
