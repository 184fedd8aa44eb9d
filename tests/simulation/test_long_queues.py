"""No saga is undone for having waited its turn, however long its queue; a lost message is found by what passes it."""

from collections import Counter
from datetime import datetime, timedelta

import pytest
from kombu.exceptions import OperationalError
from kombu.transport.memory import Channel

from app.sagas import sagas
from durable_sagas import decisions, recovery
from durable_sagas.decisions import Check, QueueState
from tests.simulation.messages import Message
from tests.simulation.mishaps import Boundary, Kind, Mishap
from tests.simulation.orders import CHOREOGRAPHED, KINDS, ORCHESTRATED, an_order
from tests.simulation.verdict import deliver_all, judge, unsettled
from tests.simulation.world import World

EACH_KIND = pytest.mark.parametrize("kind", KINDS)

SERVICES = ("orders", "inventory", "payments", "shipping", "orchestrator", "notifications")


@pytest.fixture
def shop(world: World) -> World:
    """A shop whose queues have all been served."""
    world.reset(0)
    for number, kind in enumerate(KINDS):
        world.place(an_order(90 + number, kind, "item-001"))
    deliver_all(world)
    world.sweep()
    assert not unsettled(world)
    return world


def place(shop: World, kind: str, number: int, *, swept: bool = True) -> dict[str, str]:
    """Place orders, one a second; returns how each is to end."""
    for n in range(1, number + 1):
        watch(shop, 1) if swept else shop.wait(1)
        shop.place(an_order(n, kind, "item-001"))
    return {f"order-{n}": "completed" for n in range(1, number + 1)}


def serve(shop: World, *services: str) -> list[Message]:
    """Deliver one message of each of these services; return the delivered messages."""
    done = []
    for service in services or SERVICES:
        due = [one for one in shop.post if one.queue == service and not (one.due and one.due > shop.clock.time)]
        if due:
            done.append(due[0])
            shop.deliver(due[0])
    return done


def watch(shop: World, seconds: int) -> None:
    """Sweep every second for so long, while nothing is served."""
    for _ in range(seconds):
        shop.wait(1)
        shop.sweep()


def statuses(shop: World) -> set[str]:
    """Return the statuses of the sagas of the orders placed here."""
    return {status for [status] in shop.rows("SELECT status FROM saga_instances WHERE order_id LIKE 'order-_'")}


def messages(shop: World, order: str) -> list[Message]:
    saga_ids = [row[0] for row in shop.rows("SELECT id FROM saga_instances WHERE order_id = ?", order)]
    return [
        one for one in shop.post if str(one.saga_id).replace("-", "") in {str(i).replace("-", "") for i in saga_ids}
    ]


@EACH_KIND
def test_orders_that_wait_far_beyond_their_deadlines_complete_and_nothing_is_sent_again(kind: str, shop: World) -> None:
    wait_far_beyond_the_deadlines(shop, kind)


def wait_far_beyond_the_deadlines(shop: World, kind: str) -> None:
    expected = place(shop, kind, 9, swept=False)
    shop.wait(600)  # the sweep was away; then the queues are served again, one message of each in so many seconds
    done = Counter[tuple[str, str | None, str | None]]()

    while shop.post:
        done.update((one.task, one.saga_id, one.arguments.get("event_id")) for one in serve(shop))
        watch(shop, 1)

    assert statuses(shop) == {"completed"}
    assert set(done.values()) == {1}
    judge(shop, expected)


@EACH_KIND
def test_orders_complete_in_queues_so_slow_that_one_message_takes_almost_the_timeout(kind: str, shop: World) -> None:
    expected = place(shop, kind, 4)
    done = 0

    while shop.post:
        done += len(serve(shop))
        watch(shop, 13)
        assert done < 400, "the sweep sends more than is served"

    assert statuses(shop) == {"completed"}
    judge(shop, expected)


@EACH_KIND
def test_a_lost_message_is_sent_again_once_its_queue_has_served_a_later_one(kind: str, shop: World) -> None:
    expected = place(shop, kind, 1)
    for message in messages(shop, "order-1"):
        shop.lose(message)
    for n in range(2, 6):
        shop.wait(1)
        shop.place(an_order(n, kind, "item-001"))
        expected[f"order-{n}"] = "completed"

    served = 0
    while not messages(shop, "order-1"):
        served += len(serve(shop, "orders", "inventory", "payments"))
        shop.sweep()
        assert served <= 6, "the queues have passed it"

    assert all(len(messages(shop, f"order-{n}")) <= 2 for n in range(2, 6)), "what waits is left alone"
    deliver_all(shop)
    judge(shop, expected)


@EACH_KIND
def test_a_lost_message_where_nothing_else_waits_is_sent_again_within_two_sweeps(kind: str, shop: World) -> None:
    watch(shop, 100)  # an idle shop
    expected = place(shop, kind, 1)
    shop.post.clear()

    watch(shop, 2)

    deliver_all(shop)
    judge(shop, expected)


@EACH_KIND
def test_all_that_a_broker_lost_is_sent_again_and_little_more(kind: str, shop: World) -> None:
    expected = place(shop, kind, 8)
    lost = len(shop.post)
    shop.post.clear()

    sent = seconds = 0
    while unsettled(shop):
        seconds += 1
        assert seconds < 60
        watch(shop, 1)
        sent += len(shop.post)
        deliver_all(shop)

    assert sent <= 2 * lost
    judge(shop, expected)


@EACH_KIND
def test_the_sagas_of_a_service_that_is_down_are_compensated_at_its_timeout_and_its_queue_stays_short(
    kind: str, shop: World
) -> None:
    place(shop, kind, 20)
    settings = shop.here.settings
    timeout = settings.order_timeout_seconds if kind == CHOREOGRAPHED else settings.step_timeout_seconds
    before = len(shop.post)

    watch(shop, int(timeout) - 21)
    assert not _timed_out(shop)
    assert len(shop.post) - before <= 20
    watch(shop, 22)

    assert _timed_out(shop) == 20


def _timed_out(shop: World) -> int:
    """Return how many sagas were ended for want of an answer."""
    [[orchestrated]] = shop.rows(
        "SELECT count(*) FROM saga_instances WHERE error LIKE '%no result before its deadline%'"
    )
    [[choreographed]] = shop.rows("SELECT count(*) FROM events WHERE event_type = 'OrderTimedOut'")
    return int(orchestrated + choreographed)


@EACH_KIND
def test_time_without_a_sweep_does_not_count_as_silence(kind: str, shop: World) -> None:
    expected = place(shop, kind, 3)
    before = len(shop.post)

    shop.wait(3600)  # everything was stopped
    watch(shop, 28)

    assert len(shop.post) - before <= 12
    deliver_all(shop)
    watch(shop, 40)
    deliver_all(shop)
    judge(shop, expected)


@EACH_KIND
def test_no_deadline_passes_while_the_broker_refuses_messages(
    kind: str, shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place(shop, kind, 5)

    with monkeypatch.context() as away:
        away.setattr(Channel, "_put", refuse)
        watch(shop, 150)
    while unsettled(shop):
        deliver_all(shop)
        watch(shop, 1)

    judge(shop, expected)


def refuse(*_: object, **__: object) -> None:
    """Take no message, as a broker that is gone."""
    raise OperationalError("the broker is gone")


@EACH_KIND
def test_a_sweep_that_dies_after_its_claim_undoes_nothing_that_waits(kind: str, shop: World) -> None:
    expected = place(shop, kind, 1)
    watch(shop, 1)
    shop.wait(2)
    shop.sweep(Mishap(Kind.KILL, 1))  # a probe is due: it is claimed, and not sent
    [[queue, ready_at]] = shop.rows("SELECT queue, ready_at FROM saga_instances WHERE order_id = 'order-1'")
    assert (queue, bool(ready_at)) == (None, True)

    for _ in range(70):  # beyond its deadline; meanwhile its queue is served, and has not come to it
        shop.wait(1)
        for service in SERVICES:
            sagas.engine.served.note(service, [])
        shop.sweep()

    deliver_all(shop)
    judge(shop, expected)


def send_a_moment_late(shop: World, kind: str) -> None:
    """A process is held up between commit and publishing; another order overtakes it meanwhile."""

    def another_order() -> None:
        shop.wait(0.5)
        shop.place(an_order(2, kind, "item-001"))
        for message in messages(shop, "order-2"):
            shop.deliver(message)
        shop.sweep()

    shop.wait(1)
    shop.sweep()
    at = shop.place(an_order(1, kind, "item-001")).passed.index(Boundary.BEFORE_PUBLISHING)
    deliver_all(shop)
    shop.place(an_order(3, kind, "item-001"), Mishap(Kind.PAUSE, at, another_order))

    sent = Counter((one.task, one.saga_id) for one in messages(shop, "order-3"))
    assert set(sent.values()) == {1}


@EACH_KIND
def test_a_message_that_is_sent_a_moment_late_is_not_sent_again(kind: str, shop: World) -> None:
    send_a_moment_late(shop, kind)


def _by_time_alone(
    ready_at: datetime,
    redrives: int,
    deadline_at: datetime | None,
    timeout: timedelta,
    queue: QueueState,
    now: datetime,
) -> Check:
    if deadline_at and deadline_at <= now:
        return Check.TIME_OUT
    return Check.REDRIVE if now - ready_at > timedelta(seconds=15) else Check.WAIT


def test_these_orders_are_undone_where_the_progress_of_queues_is_ignored(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "decide_check", _by_time_alone)

    with pytest.raises(AssertionError):
        wait_far_beyond_the_deadlines(shop, ORCHESTRATED)


def test_a_late_message_is_sent_twice_where_nothing_is_allowed_for_that(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "OVERTAKEN_AFTER", timedelta())

    with pytest.raises(AssertionError):
        send_a_moment_late(shop, ORCHESTRATED)
