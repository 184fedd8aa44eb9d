"""What a worker records of a failed task: of an error that it declares, where it was raised and no more."""

from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.worker.consumer import Consumer

from app.celery import app as cloudmart
from app.errors import StepFailed
from app.runtime import Runtime
from app.worker.consumer import ValidatingConsumer
from durable_sagas.messages import Reply


class Declared(Exception):
    """The error that the task declares."""


def _raise(error: Exception) -> None:
    raise error


def trace(app: Celery) -> None:
    """Give the tasks of an app their tracers, as Celery does in a worker or a child of its pool."""
    for name, task in app.tasks.items():
        task.__trace__ = build_tracer(name, task, app=app)


def failure_of(app: Celery, task_name: str) -> tuple[Exception, list[str], str]:
    """Run the task as a worker does; returns the error, the functions that its traceback goes through, and its text."""
    recorded: list[tuple[Exception, ExceptionInfo]] = []

    def record(exception: Exception, einfo: ExceptionInfo, **_: object) -> None:
        recorded.append((exception, einfo))

    signals.task_failure.connect(record)
    try:
        task: Any = app.tasks[task_name]
        task.__trace__("an id", (), {}, {"ignore_result": True})
    finally:
        signals.task_failure.disconnect(record)
    ((error, einfo),) = recorded
    names, traceback = [], einfo.tb
    while traceback:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return error, names, str(einfo)


@pytest.mark.parametrize(("error", "declared"), [(Declared("no copy is left"), True), (ZeroDivisionError(), False)])
def test_a_worker_truncates_the_traceback_of_a_declared_error_only(
    monkeypatch: pytest.MonkeyPatch, error: Exception, declared: bool
) -> None:
    app = Celery("failing", broker="memory://", set_as_current=False, task_ignore_result=True)

    @app.task(name="orders.fail", throws=(Declared,), shared=False)
    def fail() -> None:
        _raise(error)

    consumer: Any = ValidatingConsumer.__new__(ValidatingConsumer)
    consumer.app, consumer.hostname = app, "here"
    monkeypatch.setattr(Consumer, "update_strategies", lambda _: trace(app))

    consumer.update_strategies()

    failed_with, frames, text = failure_of(app, "orders.fail")
    app.close()
    assert type(failed_with) is type(error)
    if declared:
        assert frames == ["_raise"]
        assert text.count("File ") == 1
        assert "no copy is left" in text
    else:
        assert (frames[0], frames[-2:]) == ("trace_task", ["fail", "_raise"])


def test_a_child_of_a_pool_truncates_it_too(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    task = cloudmart.tasks["payments.process_payment"]
    rejection = Reply(success=False, saga_id="", step="process_payment", error="no copy is left")
    for one in cloudmart.tasks.values():
        monkeypatch.setattr(one, "__trace__", None)  # to be as it was after the test
    monkeypatch.setattr(task, "run", lambda: _raise(StepFailed(rejection)))
    trace(cloudmart)

    signals.worker_process_init.send(sender="here")

    error, frames, _ = failure_of(cloudmart, str(task.name))
    assert (type(error), frames) == (StepFailed, ["_raise"])
