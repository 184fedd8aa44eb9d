"""Audit a live database: check the invariants of every order, whatever interrupted its saga.

Each check is one statement that returns the violations; results are streamed, so that memory use does not grow with
the shop. The statements join tables of different services, which no service may do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, bindparam, case, select, text
from sqlalchemy.orm import Session

from app import runtime
from app.database import UtcDateTime
from durable_sagas.models import StoredEvent
from tasks.orders import Order, OrderAddressChanged, OrderCancelled, OrderCompleted, OrderCreated


@dataclass(frozen=True)
class Violation:
    """A violated invariant: the check, the id it was found for, and a description."""

    check: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.detail}"


# Orders are checked once their saga has ended: until then they may be between two states. A manual completion is
# trusted for the gateways, whose ledgers need not show it, but not for our own tables.
_STATEMENTS = {
    "completed orders are paid, shipped and handed over": """
        SELECT o.id, 'completed, but not once captured in full, or refunded, or not shipped with all its stock'
        FROM orders o JOIN saga_instances s ON s.order_id = o.id
        WHERE o.status = 'completed' AND s.status IN ('completed', 'compensated') AND NOT (
            (SELECT count(*) FROM payments p
             WHERE p.order_id = o.id AND p.status = 'completed' AND p.amount = o.total_amount) = 1
            AND (SELECT count(*) FROM payment_provider_ledger l
                 WHERE l.order_id = o.id AND l.kind = 'capture' AND l.amount = o.total_amount) = 1
            AND NOT EXISTS (SELECT 1 FROM payment_provider_ledger l WHERE l.order_id = o.id AND l.kind = 'refund')
            AND (SELECT count(*) FROM shipments h WHERE h.order_id = o.id AND h.status = 'arranged') = 1
            AND (SELECT count(*) FROM carrier_ledger c WHERE c.order_id = o.id AND c.kind = 'book') = 1
            AND NOT EXISTS (SELECT 1 FROM carrier_ledger c WHERE c.order_id = o.id AND c.kind = 'cancel')
            AND (SELECT coalesce(sum(r.quantity), 0) FROM stock_reservations r
                 WHERE r.order_id = o.id AND r.status = 'shipped')
                = (SELECT sum(i.quantity) FROM order_items i WHERE i.order_id = o.id)
        )""",
    "cancelled orders are undone": """
        SELECT o.id, 'cancelled, but money, a booking or stock is left'
        FROM orders o JOIN saga_instances s ON s.order_id = o.id
        WHERE o.status = 'cancelled' AND s.status IN ('completed', 'compensated') AND NOT (
            ((SELECT coalesce(sum(CASE l.kind WHEN 'capture' THEN l.amount WHEN 'refund' THEN -l.amount ELSE 0 END), 0)
              FROM payment_provider_ledger l WHERE l.order_id = o.id) = 0
             OR EXISTS (SELECT 1 FROM saga_steps m
                        WHERE m.saga_id = s.id AND m.step = 'process_payment' AND m.done_by IS NOT NULL))
            AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id AND p.status = 'completed')
            AND ((SELECT coalesce(sum(CASE c.kind WHEN 'book' THEN 1 WHEN 'cancel' THEN -1 ELSE 0 END), 0)
                  FROM carrier_ledger c WHERE c.order_id = o.id) = 0
                 OR EXISTS (SELECT 1 FROM saga_steps m
                            WHERE m.saga_id = s.id AND m.step = 'arrange_shipping' AND m.done_by IS NOT NULL))
            AND NOT EXISTS (SELECT 1 FROM shipments h WHERE h.order_id = o.id AND h.status = 'arranged')
            AND NOT EXISTS (SELECT 1 FROM stock_reservations r
                            WHERE r.order_id = o.id AND r.status IN ('reserved', 'shipped'))
        )""",
    "stock adds up": """
        SELECT b.book_id, 'received ' || b.received_stock || ', available ' || b.available_stock || ', reserved '
               || b.reserved_stock || ', open reservations ' || coalesce(t.reserved, 0) || ', shipped '
               || coalesce(t.shipped, 0) || ', shipped with orders that were pruned ' || b.pruned_stock
        FROM inventory b LEFT JOIN (
            SELECT book_id, sum(CASE status WHEN 'reserved' THEN quantity ELSE 0 END) AS reserved,
                   sum(CASE status WHEN 'shipped' THEN quantity ELSE 0 END) AS shipped
            FROM stock_reservations GROUP BY book_id
        ) t ON t.book_id = b.book_id
        WHERE b.received_stock <> b.available_stock + b.reserved_stock + coalesce(t.shipped, 0) + b.pruned_stock
           OR b.pruned_stock < 0
           OR b.reserved_stock <> coalesce(t.reserved, 0) OR b.available_stock < 0 OR b.reserved_stock < 0""",
    "the provider moved no money twice": """
        SELECT order_id, 'the provider captured or refunded more than once, or refunded what it had not captured'
        FROM payment_provider_ledger GROUP BY order_id
        HAVING sum(CASE kind WHEN 'capture' THEN 1 ELSE 0 END) > 1
            OR sum(CASE kind WHEN 'refund' THEN 1 ELSE 0 END) > sum(CASE kind WHEN 'capture' THEN 1 ELSE 0 END)
            OR sum(CASE kind WHEN 'capture' THEN amount WHEN 'refund' THEN -amount ELSE 0 END) < 0""",
    "the carrier booked nothing twice": """
        SELECT order_id, 'the carrier booked more than once, or cancelled what it had not booked'
        FROM carrier_ledger GROUP BY order_id
        HAVING sum(CASE kind WHEN 'book' THEN 1 ELSE 0 END) > 1
            OR sum(CASE kind WHEN 'cancel' THEN 1 ELSE 0 END) > sum(CASE kind WHEN 'book' THEN 1 ELSE 0 END)""",
    "compensated sagas undid all they did": """
        SELECT a.saga_id, a.step || ' took effect and was not compensated'
        FROM saga_steps a JOIN saga_instances s ON s.id = a.saga_id
        LEFT JOIN saga_steps c ON c.saga_id = a.saga_id AND c.step = a.step AND c.operation = 'compensation'
        WHERE s.status = 'compensated' AND a.operation = 'action' AND a.status = 'completed'
          AND (c.status IS NULL OR c.status NOT IN ('completed', 'by_hand'))""",
    "orchestrated sagas were undone in reverse": """
        SELECT a.saga_id, a.step || ' was compensated before ' || b.step || ', which came after it'
        FROM saga_instances s
        JOIN saga_steps a ON a.saga_id = s.id AND a.operation = 'action' AND a.status = 'completed'
        JOIN saga_steps b ON b.saga_id = s.id AND b.operation = 'action' AND b.status = 'completed'
                         AND b.finished_at > a.finished_at
        JOIN saga_steps ca ON ca.saga_id = s.id AND ca.step = a.step AND ca.operation = 'compensation'
        JOIN saga_steps cb ON cb.saga_id = s.id AND cb.step = b.step AND cb.operation = 'compensation'
        WHERE s.status = 'compensated' AND s.saga_type <> 'order-choreography' AND ca.finished_at < cb.finished_at""",
    "orders end with their sagas": """
        SELECT o.id, 'the order is ' || o.status || ', its saga ' || coalesce(s.status, 'missing')
        FROM orders o LEFT JOIN saga_instances s ON s.order_id = o.id
        WHERE s.id IS NULL OR (s.status = 'completed' AND o.status <> 'completed')
           OR (s.status = 'compensated' AND o.status <> 'cancelled')""",
    "sagas are where they say they are": """
        SELECT s.id, 'status ' || s.status || ' with state ' || s.state
        FROM saga_instances s
        WHERE (s.status = 'completed') <> (s.state = 'COMPLETED') OR (s.status = 'compensated') <> (s.state = 'FAILED')
           OR (s.status = 'compensating' AND s.state <> 'COMPENSATION_STARTED')""",
    "nothing waits longer than the sweep allows": """
        SELECT s.id, 'unfinished, and no sweep has looked at it in time'
        FROM saga_instances s
        WHERE s.status IN ('pending', 'running', 'compensating')
          AND (s.wake_at IS NULL OR s.wake_at < :overdue OR (s.deadline_at < :overdue AND s.queue IS NULL))""",
    "sagas end with their orders": """
        SELECT s.id, 'the order has been ' || o.status || ' for long, the saga is ' || s.status
        FROM saga_instances s JOIN orders o ON o.id = s.order_id
        WHERE s.status IN ('pending', 'running', 'compensating')
          AND o.status <> 'pending' AND o.updated_at < :overdue""",
    "what customers are to be told is on its way": """
        SELECT x.event_id, x.subscriber || ' has not handled it, and no sweep has sent it again in time'
        FROM outbox x WHERE x.wake_at < :overdue""",
    "nothing happened twice": """
        SELECT e.aggregate_id, e.event_type || ' happened ' || count(*) || ' times'
        FROM events e WHERE e.event_type <> 'OrderAddressChanged'
        GROUP BY e.aggregate_id, e.event_type HAVING count(*) > 1""",
    "nothing belongs to an order that is not there": """
        SELECT t.order_id, 'the order is not there, and there is still something in ' || t.kept_in
        FROM (SELECT order_id, 'payments' AS kept_in FROM payments
              UNION ALL SELECT order_id, 'shipments' FROM shipments
              UNION ALL SELECT order_id, 'stock_reservations' FROM stock_reservations
              UNION ALL SELECT order_id, 'payment_provider_ledger' FROM payment_provider_ledger
              UNION ALL SELECT order_id, 'carrier_ledger' FROM carrier_ledger
              UNION ALL SELECT order_id, 'order_requests' FROM order_requests
              UNION ALL SELECT order_id, 'notifications' FROM notifications
              UNION ALL SELECT order_id, 'saga_instances' FROM saga_instances
              UNION ALL SELECT aggregate_id, 'events' FROM events) t
        WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = t.order_id)""",
    "nothing belongs to a saga that is not there": """
        SELECT t.saga_id, 'the saga is not there, and there is still something in ' || t.kept_in
        FROM (SELECT saga_id, 'saga_steps' AS kept_in FROM saga_steps
              UNION ALL SELECT saga_id, 'operator_acts' FROM operator_acts
              UNION ALL SELECT saga_id, 'outbox' FROM outbox) t
        WHERE NOT EXISTS (SELECT 1 FROM saga_instances s WHERE s.id = t.saga_id)""",
    "every order that ended says so": """
        SELECT o.id, 'the order is ' || o.status || ' and has no event'
        FROM orders o WHERE o.status <> 'pending'
          AND NOT EXISTS (SELECT 1 FROM events e WHERE e.aggregate_id = o.id)""",
}

_FOLDING = "events are numbered without a gap and tell the order's row"

CHECKS = (*_STATEMENTS, _FOLDING)
"""The names of all checks."""

GRACE_SECONDS = 30
"""How late the sweep may be before an unfinished saga is a violation."""


def audit() -> Iterator[Violation]:
    """Yield every violation of every invariant, as of one snapshot of the database."""
    current = runtime.current()
    overdue = current.now() - timedelta(seconds=GRACE_SECONDS)
    with current.database.snapshot() as session:
        for check, statement in _STATEMENTS.items():
            query = text(statement)
            if ":overdue" in statement:
                query = query.bindparams(bindparam("overdue", overdue, UtcDateTime()))
            for subject, detail in session.execute(query, execution_options={"yield_per": 1000}):
                yield Violation(check, str(subject), detail)
        yield from _folded(session)


def _folded(session: Session) -> Iterator[Violation]:
    """Fold each order's events and compare the result with its row."""
    # only the compared field of each payload is read: parsing a million payloads would take most of the time
    has_address = StoredEvent.event_type.in_([OrderCreated, OrderAddressChanged])
    address = case((has_address, StoredEvent.payload["shipping_address"].as_string())).label("address")
    query = (
        select(Order.id, Order.status, Order.shipping_address, StoredEvent.sequence, StoredEvent.event_type, address)
        .join(StoredEvent, StoredEvent.aggregate_id == Order.id)
        .order_by(Order.id, StoredEvent.sequence)
    )
    rows = session.execute(query.execution_options(yield_per=1000))
    for order_id, group in groupby(rows, key=itemgetter(0)):
        events = list(group)
        numbers = [event.sequence for event in events]
        if numbers != list(range(1, len(events) + 1)):
            yield Violation(_FOLDING, order_id, f"numbered {numbers}")
        elif difference := _difference(events):
            yield Violation(_FOLDING, order_id, difference)


def _difference(events: list[Row[Any]]) -> str | None:
    status, address = "pending", None
    for event in events:
        if event.event_type in {OrderCompleted, OrderCancelled}:
            if status != "pending":
                return f"{event.event_type} although it was {status}"
            status = "completed" if event.event_type == OrderCompleted else "cancelled"
        elif event.address is not None:
            address = event.address
    row = events[0]
    if status != row.status:
        return f"the events say {status}, the row {row.status}"
    if address is not None and address != row.shipping_address:
        return "the events say another address than the row"
    return None
