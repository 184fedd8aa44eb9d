"""What the contestants on this project's engine have in common."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.errors import StepRejected
from bench.compare.work import Order, RequestError, act, undo


class Placed(BaseModel):
    """An order, as a command of the engine is told it."""

    order_id: str
    book_id: int
    amount: int
    fails: bool

    def as_order(self) -> Order:
        """Return the same as the work takes it."""
        return Order(order_id=self.order_id, book_id=self.book_id, amount=self.amount, fails=self.fails)


def act_in(session: Session, step: str, placed: Placed) -> None:
    """Run a step in the engine's transaction. Raises StepRejected."""
    try:
        act(step, placed.as_order(), _execute_in(session))
    except RequestError as error:
        raise StepRejected(str(error)) from error


def undo_in(session: Session, step: str, placed: Placed) -> None:
    """Undo a step in the engine's transaction."""
    undo(step, placed.as_order(), _execute_in(session))


def lock_books(session: Session, orders: Sequence[Placed]) -> None:
    """Lock the stock of several orders' books, in the order of their ids: see ``lock_shared_rows`` of ``@command``."""
    books = {"books": [order.book_id for order in orders]}
    session.connection().exec_driver_sql(
        "SELECT FROM bench_stock WHERE book_id = ANY(%(books)s) ORDER BY book_id FOR UPDATE", books
    )


def _execute_in(session: Session) -> Any:
    connection = session.connection()
    return lambda sql, parameters: connection.exec_driver_sql(sql, dict(parameters)).rowcount
