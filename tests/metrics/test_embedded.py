"""In one process, where nothing is killed, every count is what the database says."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from durable_sagas.definition import RetryPolicy
from tests.metrics.scrapes import Counts, counts, of, own, parse, truth
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from web import create_app
from workflows.orders import place
from workflows.scenarios import SAGA_TYPES, SCENARIOS

DELAY_SECONDS = 1.5


@pytest.fixture
def shop(seeded_database: Path, tmp_path: Path) -> Iterator[Shop]:
    with open_shop("memory", seeded_database, tmp_path) as shop:
        yield shop


def test_after_orders_of_every_kind_the_counts_are_what_the_database_says(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: 0.01)
    before = counts(own())

    placed = [place(scenario.order(saga_type)) for scenario in SCENARIOS for saga_type in SAGA_TYPES]
    for order in placed:
        shop.settle(order.saga_id)

    def counted() -> Counts:
        now = counts(own())
        now.subtract(before)
        return +now

    # a count follows the commit that made it true
    shop.wait_for(lambda: (counted(), truth(shop)), lambda both: both[0] == both[1])
    seen = {name for name, *_ in counted()}
    answer = create_app().test_client().get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    samples = parse(answer.text)
    assert of(samples, "saga_started_total", type="order") >= len(SCENARIOS)
    assert of(samples, "database_up") == of(samples, "broker_up") == 1
    assert ("queue_depth", frozenset({("queue", "payments")})) in samples
    assert {"saga_failed_total", "saga_compensated_total", "step_retried_total", "step_failed_total"} <= seen


def test_the_delay_of_a_retry_is_no_waiting(
    seeded_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: DELAY_SECONDS)
    before, began = own(), time.monotonic()
    # no deadline passes and nothing stalls, however slow the machine is
    patient = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 120}
    with open_shop("memory", seeded_database, tmp_path, **patient) as shop:
        saga = shop.settle(shop.order(shop.add_book(stock=1), simulate={"payments": "fail:1"})["saga_id"])

    assert saga["status"] == "completed"
    elapsed, now = time.monotonic() - began, own()
    waits, waited = (
        of(now, name, queue="payments") - of(before, name, queue="payments")
        for name in ("queue_wait_seconds_count", "queue_wait_seconds_sum")
    )
    assert waits == 2
    # the rest of the elapsed time: what a loaded machine makes wait in the queue counts
    assert waited <= elapsed - DELAY_SECONDS


def test_every_series_that_can_be_foreseen_is_there_before_anything_happens(client: FlaskClient) -> None:
    there = {dict(labels)["type"] for (name, labels) in own() if name == "step_retried_total"}

    assert set(SAGA_TYPES) <= there  # another test of this process may have declared a saga of its own
    assert ("saga_redriven_total", frozenset({("type", "order"), ("pattern", "orchestration")})) in own()
