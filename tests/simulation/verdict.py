"""How a run ends and what is said of it: everything settles once the faults stop, and then everything must add up."""

from collections.abc import Iterator
from datetime import UTC, datetime

from durable_sagas.outages import GAP_SECONDS
from tests.simulation.world import World
from workflows.operations.audit import GRACE_SECONDS, audit

ROUNDS = 40
"""How often the sweep may run until everything is settled; a stalled saga needs one, a stuck one a few."""

SWEEPS = 3
"""How many sweeps are a second apart: what was lost in a silent queue is found by then."""

DELIVERIES = 400
"""How many messages may follow from what waits; more mean that they never end."""


class Violated(AssertionError):
    """Raised when a run ends otherwise than every run must."""


def settle(world: World) -> None:
    """Stop all faults: deliver what waits, run the sweep when it is due, resume what is stuck, until all is settled.

    Raises Violated if that does not bring everything to its end.
    """
    world.note("from here on nothing goes wrong")
    for _ in range(ROUNDS):
        deliver_all(world)
        if not unsettled(world):
            return
        if not world.resume_stuck():
            _sweep_until_something_waits(world)
    raise Violated(f"the sweep does not move it: {unsettled(world)}")


def deliver_all(world: World) -> None:
    """Deliver what waits, and what that causes, oldest first. Raises Violated if that never ends."""
    for _ in range(DELIVERIES):
        if not world.post:
            return
        world.deliver(world.post[0])
    raise Violated(f"messages without end: {[message.task for message in world.post]}")


def unsettled(world: World) -> list[tuple[str, str]]:
    """Return what has not ended: orders with their sagas' status, and events that wait in the outbox."""
    return world.rows(
        "SELECT order_id, status FROM saga_instances WHERE status NOT IN ('completed', 'compensated')"
        " UNION ALL SELECT event_id, subscriber FROM outbox"
    )


def _sweep_until_something_waits(world: World) -> None:
    """Sweep, at first every second, until a message waits, at most until the sweep has something to look at."""
    [[wake_at]] = world.rows(
        "SELECT min(wake_at) FROM (SELECT wake_at FROM outbox UNION ALL SELECT wake_at FROM saga_instances"
        " WHERE status IN ('pending', 'running', 'compensating'))"
    )
    due = datetime.fromisoformat(wake_at).replace(tzinfo=UTC) if wake_at else world.clock.time
    seconds = 0.0
    while not world.post and (seconds < SWEEPS or world.clock.time <= due):
        seconds += 1
        # not so rarely that it would be taken for an outage
        world.wait(1 if seconds <= SWEEPS else GAP_SECONDS - 1)
        world.sweep()


def judge(world: World, expected: dict[str, str] | None = None) -> None:
    """Compare a settled world with what must be; ``expected`` names the orders of which it is known how they end.

    Raises Violated, naming everything that is wrong.
    """
    world.clock.forward(GRACE_SECONDS + 1)  # what the audit calls forgotten must show as well
    found = [f"{v.check}: {v.subject} {v.detail}" for v in audit()]
    found += _beyond_the_audit(world)
    statuses = dict(world.rows("SELECT id, status FROM orders"))
    for order_id, status in (expected or {}).items():
        if statuses.get(order_id) != status:
            found.append(f"{order_id} is {statuses.get(order_id)}, not {status}")
    if found:
        raise Violated("; ".join(found))


_NOTHING = {
    "an order has not ended": "SELECT id, status FROM orders WHERE status NOT IN ('completed', 'cancelled')",
    "stock is still reserved": "SELECT book_id, reserved_stock FROM inventory WHERE reserved_stock <> 0",
    "stock is not what completed orders left": """
        SELECT book_id, available_stock FROM inventory b WHERE received_stock - available_stock <> (
            SELECT coalesce(sum(i.quantity), 0) FROM order_items i JOIN orders o ON o.id = i.order_id
            WHERE i.book_id = b.book_id AND o.status = 'completed')""",
    "the provider does not hold what completed orders cost": """
        SELECT o.id, o.status FROM orders o WHERE (
            SELECT coalesce(sum(CASE kind WHEN 'capture' THEN amount WHEN 'refund' THEN -amount ELSE 0 END), 0)
            FROM payment_provider_ledger l WHERE l.order_id = o.id
        ) <> CASE o.status WHEN 'completed' THEN o.total_amount ELSE 0 END""",
    "the carrier does not fetch what completed orders send": """
        SELECT o.id, o.status FROM orders o WHERE (
            SELECT coalesce(sum(CASE kind WHEN 'book' THEN 1 WHEN 'cancel' THEN -1 ELSE 0 END), 0)
            FROM carrier_ledger c WHERE c.order_id = o.id
        ) <> (o.status = 'completed')""",
    "the customer was not told once how it ended": """
        SELECT o.id, o.status, group_concat(n.kind) FROM orders o LEFT JOIN notifications n ON n.order_id = o.id
        GROUP BY o.id HAVING count(n.id) <> 1
            OR max(n.kind) <> CASE o.status WHEN 'completed' THEN 'OrderCompleted' ELSE 'OrderCancelled' END""",
}


def _beyond_the_audit(world: World) -> Iterator[str]:
    """Yield what is wrong in a shop where nothing is under way, which the audit of a live one cannot say."""
    for what, query in _NOTHING.items():
        for row in world.rows(query):
            yield f"{what}: {row}"
