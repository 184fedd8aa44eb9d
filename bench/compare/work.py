"""The work that every contestant does: an order in four transactions, and the undoing of each, said once as plain SQL.

A contestant runs the statements of one step in one transaction; how it makes that durable is what is compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict

BOOKS = 100
"""So many that two orders in flight seldom want the same row, which would measure PostgreSQL's locks."""

COPIES = 1_000_000


class Order(TypedDict):
    """What a saga is told when it starts: plain JSON."""

    order_id: str
    book_id: int
    amount: int
    fails: bool
    """Whether the carrier says no."""


class Outcome(StrEnum):
    """How an order ends; the value is its status then."""

    COMPLETED = "completed"
    UNDONE = "cancelled"


@dataclass(frozen=True)
class Statement:
    """One statement of a step. ``refusal`` says why the step is refused if it changes no row."""

    sql: str
    refusal: str | None = None


class RequestError(Exception):
    """Raised when a service says no: an answer, and nothing to be tried again."""


Execute = Callable[[str, Mapping[str, Any]], int]
"""Runs a statement with its parameters (``%(name)s``) in the step's transaction; returns how many rows it changed."""

ACTIONS: dict[str, tuple[Statement, ...]] = {
    "create": (
        Statement("INSERT INTO bench_orders (id, book_id, amount) VALUES (%(order_id)s, %(book_id)s, %(amount)s)"),
    ),
    "reserve": (
        Statement(
            "UPDATE bench_stock SET available = available - 1, reserved = reserved + 1"
            " WHERE book_id = %(book_id)s AND available >= 1",
            refusal="out of stock",
        ),
        Statement("INSERT INTO bench_reservations (order_id, book_id) VALUES (%(order_id)s, %(book_id)s)"),
    ),
    "pay": (Statement("INSERT INTO bench_payments (order_id, amount) VALUES (%(order_id)s, %(amount)s)"),),
    "ship": (
        Statement("INSERT INTO bench_shipments (order_id, tracking_number) VALUES (%(order_id)s, %(order_id)s)"),
        Statement(
            "UPDATE bench_orders SET status = 'completed', updated_at = now() WHERE id = %(order_id)s",
            refusal="there is no such order",
        ),
    ),
}

UNDOINGS: dict[str, tuple[Statement, ...]] = {
    "create": (Statement("UPDATE bench_orders SET status = 'cancelled', updated_at = now() WHERE id = %(order_id)s"),),
    "reserve": (
        Statement(
            "UPDATE bench_stock SET available = available + 1, reserved = reserved - 1 WHERE book_id = %(book_id)s"
        ),
        Statement("UPDATE bench_reservations SET status = 'released' WHERE order_id = %(order_id)s"),
    ),
    "pay": (Statement("UPDATE bench_payments SET status = 'refunded' WHERE order_id = %(order_id)s"),),
}

STEPS = tuple(ACTIONS)


def order(tag: str, number: int, *, fails: bool) -> Order:
    """Return the order with this number of the run with this tag."""
    return Order(order_id=f"{tag}-{number:06}", book_id=number % BOOKS, amount=3500, fails=fails)


def act(step: str, order: Order, execute: Execute) -> None:
    """Run a step's statements. Raises RequestError."""
    if step == "ship" and order["fails"]:
        raise RequestError("the carrier does not go there")
    for statement in ACTIONS[step]:
        if not execute(statement.sql, order) and statement.refusal:
            raise RequestError(statement.refusal)


def undo(step: str, order: Order, execute: Execute) -> None:
    """Run the statements that undo a step."""
    for statement in UNDOINGS[step]:
        execute(statement.sql, order)
