"""What a worker notes of a task that has failed: of an error that it declares, where it was raised and no more."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, Task, signals
from celery.app.trace import build_tracer

from app.celery import app as cloudmart
from app.errors import StepFailed
from app.runtime import Runtime
from app.worker.consumer import ValidatingConsumer
from durable_sagas.messages import Reply

NO = "no copy is left"


class Declared(Exception):
    """What the task says it may end with."""


class Unconnected(ValidatingConsumer):
    """A worker's consumer that has no worker and no broker; what is asked of them means nothing."""

    timer = pool = MagicMock()

    def __init__(self, app: Celery) -> None:
        self.app, self.hostname = app, "here"
        self.strategies: dict[str, object] = {}

    def __getattr__(self, _: str) -> Any:
        return MagicMock()


def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def failing() -> Iterator[Celery]:
    """Yield an app with a worker's tracers, whose task ends with the error that it is told."""
    app = Celery("failing", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True

    @app.task(name="orders.fail", throws=(Declared,), shared=False)
    def fail(declared: bool) -> None:
        _raise(Declared(NO) if declared else ZeroDivisionError())

    app.finalize()
    Unconnected(app).update_strategies()
    yield app
    app.close()


def failure_of(app: Celery, task_name: str = "orders.fail", **arguments: Any) -> tuple[Exception, ExceptionInfo]:
    """Run the task as a worker does; returns the error, and what Celery has noted of it."""
    noted: list[tuple[Exception, ExceptionInfo]] = []

    def note(exception: Exception, einfo: ExceptionInfo, **_: object) -> None:
        noted.append((exception, einfo))

    signals.task_failure.connect(note)
    try:
        task: Task[Any, Any] = app.tasks[task_name]
        task.__trace__("an id", (), arguments, {"ignore_result": True})
    finally:
        signals.task_failure.disconnect(note)
    (only,) = noted
    return only


def frames(einfo: ExceptionInfo) -> list[str]:
    """Return the functions that a traceback, as Celery has copied it, goes through."""
    names, traceback = [], einfo.tb
    while traceback:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return names


def test_of_a_declared_error_it_notes_where_it_was_raised(failing: Celery) -> None:
    error, einfo = failure_of(failing, declared=True)
    assert (type(error), str(error)) == (Declared, NO)
    assert frames(einfo) == ["_raise"]
    assert str(einfo).count("File ") == 1
    assert NO in str(einfo)


def test_of_any_other_error_it_notes_all_the_way_to_it(failing: Celery) -> None:
    error, einfo = failure_of(failing, declared=False)
    assert type(error) is ZeroDivisionError
    assert frames(einfo)[-2:] == ["fail", "_raise"]
    assert frames(einfo)[0] == "trace_task"


def test_a_child_of_a_pool_notes_as_little(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, task in cloudmart.tasks.items():
        monkeypatch.setattr(task, "__trace__", build_tracer(name, task, app=cloudmart))  # as Celery does in a child
    refusal = Reply(success=False, saga_id="", step="process_payment", error=NO)
    monkeypatch.setattr(cloudmart.tasks["payments.process_payment"], "run", lambda: _raise(StepFailed(refusal)))

    signals.worker_process_init.send(sender="here")

    error, einfo = failure_of(cloudmart, "payments.process_payment")
    assert type(error) is StepFailed
    assert frames(einfo) == ["_raise"]
