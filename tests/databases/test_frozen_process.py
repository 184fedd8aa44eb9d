"""A process that is frozen in the middle of a transaction stops nobody else for long, and does no harm afterwards."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from app.database import Database
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import ROOT, Settings
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.recovery import LOCKED_FOR_SECONDS, SweepResult
from tests.databases.plans import on_postgresql
from tests.testkit.messages import Clock, Post
from tests.testkit.processes import process_environment
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

pytestmark = on_postgresql

LOCK_TIMEOUT, IDLE_TIMEOUT = 1.0, 10.0
IDLE_TIMEOUT_OF_THE_FROZEN = 6.0
"""So much longer than the lock timeout that another, however slowly it starts, meets the lock first."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.but(database_lock_timeout_seconds=LOCK_TIMEOUT, database_idle_transaction_seconds=IDLE_TIMEOUT)


@pytest.fixture
def orders(post: Post) -> list[PlacedOrder]:
    """Two orders of the same book, whose stock is to be reserved next."""
    placed = [place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION)) for _ in range(2)]
    for _ in placed:
        post.deliver("orders.create_order")
    return placed


@pytest.fixture
def frozen(here: Runtime, orders: list[PlacedOrder], post: Post) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that is frozen while it reserves the first order's stock."""
    post.take("inventory.reserve_stock")
    command = [sys.executable, "-m", "tests.databases.freezing", orders[0].saga_id]
    settings = here.settings.but(database_idle_transaction_seconds=IDLE_TIMEOUT_OF_THE_FROZEN)
    process = subprocess.Popen(command, cwd=ROOT, env=process_environment(settings))
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it ended before it was frozen"
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def test_others_go_on_within_the_bound_and_the_frozen_one_does_its_work_once_when_it_wakes(
    here: Runtime,
    orders: list[PlacedOrder],
    post: Post,
    frozen: "subprocess.Popen[bytes]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        post.deliver("inventory.reserve_stock")  # of the other order; meets the lock, and is retried
    assert time.monotonic() - began < 60  # the timeouts are a fraction of it, and nobody else would end the wait
    assert "lock timeout" in " ".join(str(vars(record).get("reason")) for record in caplog.records)
    assert reserved(here, orders[1]) == ("completed", 1, [])
    assert reserved(here, orders[0]) is None

    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(60) == 0

    assert reserved(here, orders[0]) == ("completed", 1, [])
    post.deliver_all()
    with here.database.reading() as session:
        assert session.get_one(SagaInstance, orders[1].saga_id).status == "completed"
    assert list(audit()) == []


def reserved(here: Runtime, placed: PlacedOrder) -> tuple[str, int, list[object]] | None:
    """Return what the log says of reserving an order's stock."""
    with here.database.reading() as session:
        row = session.get(SagaStep, (placed.saga_id, "reserve_stock", "action"))
        return (row.status, row.attempts, row.failures) if row else None


def test_the_sweep_reports_what_has_been_locked_for_too_long_and_drives_on_the_rest(
    here: Runtime, orders: list[PlacedOrder], post: Post, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def sweep() -> tuple[int, int]:
        swept = sagas.sweep()
        return swept.driven, swept.locked

    with closing(Database(here.settings.database_url)) as holder, holder.transaction() as other:
        other.get_one(SagaInstance, orders[0].saga_id, with_for_update=True)
        clock.forward(here.settings.stall_seconds + LOCKED_FOR_SECONDS - 1)
        assert sweep() == (1, 0)
        clock.forward(2)
        with caplog.at_level(logging.WARNING):
            assert sweep()[1] == 1
    assert [vars(record)["saga_id"] for record in caplog.records] == [orders[0].saga_id]

    assert sweep() == (1, 0)


def test_a_sweep_does_not_report_what_another_has_just_claimed(
    here: Runtime, orders: list[PlacedOrder], post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = list[SweepResult | None]()
    resend_outbox = sagas.events.resend_outbox

    def with_another_sweep_beside(*args: Any, **options: Any) -> int:
        monkeypatch.setattr(sagas.events, "resend_outbox", resend_outbox)
        with ThreadPoolExecutor(1) as pool:
            beside.append(pool.submit(sagas.sweep_if_available).result(60))
        return resend_outbox(*args, **options)

    monkeypatch.setattr(sagas.events, "resend_outbox", with_another_sweep_beside)
    clock.forward(here.settings.stall_seconds + LOCKED_FOR_SECONDS + 1)

    assert sagas.sweep().driven == len(orders)
    assert beside == [None]  # it waited for the other until its lock timeout
