"""A gateway call that takes long is made once: the sweep leaves its saga alone while it is under way."""

import threading

import pytest

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import Options
from durable_sagas.queue_progress import Call, ServedQueues
from tests.engine import trip
from tests.testkit import stored
from tests.testkit.messages import Clock, Post

pytestmark = pytest.mark.usefixtures("agency")


def due_in(saga_id: str, clock: Clock) -> float:
    wake_at = stored.saga(saga_id).wake_at
    assert wake_at is not None
    return round((wake_at - clock()).total_seconds(), 1)


def test_a_renewal_postpones_the_next_check_but_not_beyond_the_deadline(
    here: Runtime, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagas.engine, "options", Options(step_timeout_seconds=30, stall_seconds=10))
    saga_id = trip.start()
    deadline = stored.saga(saga_id).deadline_at

    clock.forward(9)
    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])
    assert due_in(saga_id, clock) == 10
    clock.forward(9)
    assert sagas.sweep().driven == 0

    clock.forward(8)
    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])
    assert stored.saga(saga_id).wake_at == deadline


def test_a_saga_that_has_ended_is_not_checked_again(here: Runtime, clock: Clock, agency: None) -> None:
    saga_id = trip.start()
    assert stored.saga(saga_id).status == "completed"

    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])

    assert stored.saga(saga_id).wake_at is None


def test_a_call_is_renewed_for_as_long_as_it_lasts(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ServedQueues(lambda: here.database, lambda: Options(stall_seconds=0.03))
    renewed = threading.Semaphore(0)
    seen: list[set[Call]] = []
    call = Call("one", "orders", None, None)

    def renew(long: set[Call]) -> None:
        seen.append(long)
        renewed.release()

    monkeypatch.setattr(calls, "renew", renew)

    with calls.under_way(call):
        assert renewed.acquire(timeout=30)
        assert renewed.acquire(timeout=30)
        thread = calls._thread

    assert thread
    thread.join(30)
    assert calls._thread is None
    assert seen[0] == {call}
