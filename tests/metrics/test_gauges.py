"""How things stand in database and broker, and what is told when they do not answer."""

import threading
from pathlib import Path
from unittest.mock import Mock

import pytest
from kombu import Producer, Queue
from prometheus_client import generate_latest
from sqlalchemy import text

from app.celery import app as celery
from app.celery import configuration
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from tests.metrics.scrapes import Samples, of, parse
from tests.testkit.messages import Clock, Post
from tests.testkit.processes import wait_for
from tests.testkit.servers import empty_queues, open_broker
from web import create_app
from workflows import QUEUES
from workflows.operations import gauges
from workflows.operations.gauges import Gauges, Probe, queue_depths
from workflows.orders import Item, NewOrder, Pattern, place


def read() -> Samples:
    return parse(generate_latest(Gauges().registry).decode())


def place_each() -> list[str]:
    """Place an order in each pattern; returns their sagas."""
    return [place(NewOrder((Item("item-001", 1),), pattern)).saga_id for pattern in Pattern]


def test_unfinished_sagas_are_told_by_type_and_status_with_the_age_of_the_oldest(
    here: Runtime, post: Post, clock: Clock
) -> None:
    orchestrated, choreographed = place_each()
    clock.forward(100)
    place_each()
    with here.database.transaction() as session:
        for saga_id in (orchestrated, choreographed):
            session.execute(text("UPDATE saga_instances SET status = 'stuck' WHERE id = :id"), {"id": saga_id})
    clock.forward(10)

    samples = read()

    assert of(samples, "saga_stuck", type="order") == of(samples, "saga_stuck", type="order-choreography") == 1
    assert of(samples, "saga_stuck", type="order-payment-first") == 0
    assert of(samples, "saga_unfinished", type="order", status="pending") == 1
    assert of(samples, "saga_unfinished", type="order-choreography", status="running") == 1
    age = "saga_oldest_unfinished_seconds"
    assert of(samples, age, type="order", status="stuck") == pytest.approx(110, abs=1)
    assert of(samples, age, type="order", status="pending") == pytest.approx(10, abs=1)
    assert of(samples, age, type="order", status="compensating") == 0
    assert of(samples, "sweep_age_seconds") == float("inf")

    sagas.sweep()
    clock.forward(7)
    with here.database.transaction() as session:  # nobody declares it any more
        session.execute(text("UPDATE saga_instances SET saga_type = 'retired', status = 'stuck'"))
    samples = read()

    assert of(samples, "sweep_age_seconds") == pytest.approx(7, abs=0.1)
    assert of(samples, "saga_stuck", type="retired") == 4


def test_sagas_are_counted_as_far_as_anybody_needs(here: Runtime, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "MAX_COUNTED", 2)
    for _ in range(3):
        place_each()

    assert of(read(), "saga_unfinished", type="order") == of(read(), "saga_unfinished", type="order-choreography") == 2


@pytest.mark.parametrize("broker", ["rabbitmq", "redis", "memory"])
def test_messages_that_nobody_has_taken_are_told_by_queue(here: Runtime, broker: str) -> None:
    with open_broker(broker) as url:
        here.settings = here.settings.but(broker_url=url)
        celery.conf.update(configuration(here.settings))
        celery.conf.task_always_eager = False
        before = queue_depths()

        with celery.connection_for_write() as connection:  # not the pool's, which goes on with its first broker
            for _ in range(3):
                Producer(connection).publish({}, routing_key="payments", declare=[Queue("payments")])

        try:
            # RabbitMQ puts a message into its queue some time after the publisher has sent it
            wait_for("the messages to be in their queue", lambda: queue_depths()["payments"] == 3)
            assert queue_depths() == {**dict.fromkeys(QUEUES, 0), "payments": 3}
            assert before == dict.fromkeys(QUEUES, 0)
        finally:
            empty_queues(url)


def test_of_a_silent_broker_and_a_silent_database_only_that_is_told(
    here: Runtime, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(settings.but(database_url=f"sqlite:///{tmp_path}")).test_client()
    monkeypatch.setitem(celery.conf, "broker_url", "amqp://127.0.0.1:1//")
    monkeypatch.setitem(celery.conf, "broker_transport", None)
    monkeypatch.setitem(celery.conf, "broker_transport_options", {})

    answer = client.get("/metrics")

    assert answer.status_code == 200
    samples = parse(answer.text)
    assert of(samples, "database_up") == of(samples, "broker_up") == 0
    assert ("saga_started_total", frozenset({("type", "order"), ("pattern", "orchestration")})) in samples
    assert {name for name, _ in samples} & {"saga_stuck", "saga_unfinished", "queue_depth"} == set()


def test_what_was_read_is_kept_for_a_while_and_so_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    numbers = iter(range(10))
    counter = Probe("counter", lambda: next(numbers), max_age=60)
    impatient = Probe("counter", lambda: next(numbers), max_age=0)
    away = Probe("database", Mock(side_effect=[DatabaseUnavailable("away")]), max_age=60)

    assert [probe.get() for probe in (counter, counter, impatient, impatient, away, away)] == [0, 0, 1, 2, None, None]
    assert "no metrics of the database: it does not answer" in caplog.text


def test_what_hangs_is_waited_for_once_and_not_for_long(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    hang = Mock(side_effect=[released])
    probe = Probe("broker", lambda: hang().wait(60), max_age=60, timeout=0.05)

    assert [probe.get(), probe.get()] == [None, None]
    released.set()
    wait_for("its answer", lambda: probe.get() is True)
    assert "no metrics of the broker: it has not answered in 0.05 s" in caplog.text
