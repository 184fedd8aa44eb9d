"""How a worker accounts for a task that ends with an error which it declares (``throws``): briefly.

That a step was refused is business, and its message says it all. Celery copies of every frame of an error's traceback
all positions in its code; its own tracer is a frame of a thousand lines, and copying it took as long as a step.
"""

from types import TracebackType
from typing import Any

from celery import Celery
from celery.app.trace import TraceInfo, build_tracer


class BriefInfo(TraceInfo):
    """What Celery notes of a task that did not succeed; of a declared error only where it was raised."""

    __slots__ = ()

    def handle_failure(self, task: Any, req: Any, store_errors: bool = True, call_errbacks: bool = True) -> Any:
        """Account for a task that has failed, as Celery does."""
        if isinstance(self.retval, task.throws):
            self.retval.__traceback__ = _innermost(self.retval.__traceback__)
        return super().handle_failure(task, req, store_errors, call_errbacks)


def be_brief(app: Celery, hostname: str | None) -> None:
    """Have a worker's tasks that declare errors traced so; to be called after Celery has set up its own tracers."""
    for name, task in app.tasks.items():
        if task.throws:
            task.__trace__ = build_tracer(name, task, app.loader, hostname, Info=BriefInfo, app=app)


def _innermost(traceback: TracebackType | None) -> TracebackType | None:
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return traceback
