"""A collector that is away costs traces and nothing else."""

import logging
import time

import pytest
from flask.testing import FlaskClient
from kombu.exceptions import OperationalError

from app import runtime
from app.celery import app as celery
from app.observability import tracing
from tests.testkit.processes import free_port
from tests.testkit.servers import connection_to
from tests.tracing.conftest import Arrived
from tests.tracing.receiver import Receiver
from tests.tracing.test_requests import place

LOST = "traces are lost, the collector does not take them"
AGAIN = "the collector takes traces again"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    about = ("app.observability.tracing", "opentelemetry", "urllib3")
    return [r.getMessage() for r in caplog.records if r.name.startswith(about) and r.levelno >= logging.INFO]


def test_it_is_said_once_that_it_takes_nothing_and_once_that_it_does_again(
    client: FlaskClient, traced: Receiver, arrived: Arrived, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    traced.status = 400
    for _ in range(3):
        place(client)
        arrived()
    assert traced.requests >= 3 and not traced.spans
    assert lines(caplog) == [LOST]
    assert "400" in next(record for record in caplog.records if record.getMessage() == LOST).reason  # type: ignore[attr-defined]

    traced.status = 200
    place(client)
    assert arrived()
    assert lines(caplog) == [LOST, AGAIN]


def test_nobody_waits_for_it(
    client: FlaskClient, traced: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracing.stop()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")  # so that it is tried, in vain, while the order is placed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")  # how long the exporter itself would try, in seconds
    nowhere = f"http://127.0.0.1:{free_port()}"
    tracing.start(runtime.current().settings.but(otel_exporter_otlp_endpoint=nowhere), "tests")
    place(client)
    begun = time.monotonic()
    tracing.stop()

    assert time.monotonic() - begun < 50
    assert lines(caplog) in ([], [LOST])


def test_a_message_that_the_broker_does_not_take_leaves_nothing_behind(traced: Receiver) -> None:
    task = celery.tasks["orders.create_order"]
    nowhere = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    celery.conf.task_always_eager = False
    with connection_to(nowhere) as connection, pytest.raises(OperationalError):
        celery.send_task(task.name, kwargs={"saga_id": "x"}, connection=connection, retry=False)
    assert tracing.current_trace_id() is None
    assert not getattr(task, "__otel_task_span", None)
