"""The outside world takes its time: the answer is late, or too late, and what was asked for has been done."""

import threading
import time
from decimal import Decimal

import pytest
from sqlalchemy import text

from app import runtime
from app.database import Database
from app.errors import DatabaseUnavailable, StepRejected, StepUnavailable
from app.runtime import Runtime
from tasks.gateways import carrier, payment_provider
from tasks.gateways.payment_provider import DECLINED_AMOUNT

AMOUNT = Decimal(1200)


def far_away(here: Runtime, latency: float, timeout: float = 5) -> None:
    """Have the gateways answer so late, and be waited for so long."""
    here.settings = here.settings.but(gateway_latency_seconds=latency, gateway_timeout_seconds=timeout)


def captured() -> int:
    with runtime.current().database.reading() as session:
        return int(session.scalar(text("SELECT count(*) FROM payment_provider_ledger WHERE kind = 'capture'")) or 0)


def test_an_answer_comes_when_it_is_due_and_a_no_takes_as_long_as_a_yes(here: Runtime) -> None:
    far_away(here, latency=0.2)
    began = time.monotonic()

    assert payment_provider().capture("key", "order-1", AMOUNT, "credit_card").amount == AMOUNT
    assert time.monotonic() - began >= 0.2
    with pytest.raises(StepRejected):
        payment_provider().capture("other key", "order-1", DECLINED_AMOUNT, "credit_card")
    assert time.monotonic() - began >= 0.4
    with pytest.raises(StepRejected):
        carrier().book("key", "order-1", " ")
    assert time.monotonic() - began >= 0.6


def test_an_answer_after_the_timeout_is_not_waited_for_and_may_be_voided(here: Runtime) -> None:
    far_away(here, latency=600, timeout=0.1)

    with pytest.raises(StepUnavailable, match=r"did not answer within 0\.1 s"):
        payment_provider().capture("key", "order-1", AMOUNT, "credit_card")

    assert captured() == 1  # and nobody was told
    far_away(here, latency=0)
    refund = payment_provider().void("key", "order-1")
    assert refund is not None
    assert refund.amount == AMOUNT


def test_a_database_fault_is_not_hidden_by_an_answer_that_is_too_late(
    here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_away(here, latency=600, timeout=0.1)
    monkeypatch.setattr(here, "database", Database("postgresql://nobody@127.0.0.1:1/none"))

    with pytest.raises(DatabaseUnavailable):  # which costs the step no attempt, as StepUnavailable would
        payment_provider().capture("key", "order-1", AMOUNT, "credit_card")


def test_a_process_that_stops_waits_for_no_answer(here: Runtime) -> None:
    far_away(here, latency=600, timeout=600)
    ended = threading.Event()

    def book() -> None:
        with pytest.raises(StepUnavailable, match="stopping"):
            carrier().book("key", "order-1", "1 Main Street")
        ended.set()

    waiting = threading.Thread(target=book)
    waiting.start()
    here.stopping.set()

    waiting.join(60)
    assert ended.is_set()
