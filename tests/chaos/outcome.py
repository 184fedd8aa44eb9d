"""What became of the orders: read from the database, and held against what they were told to do."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from app.saga.definition import COMPENSATION_STARTED, TERMINAL, SagaStatus
from app.saga.models import SagaInstance
from tasks.orders import Order, OrderRequest
from tests.chaos.plan import Wish
from tests.testkit.shop import Shop

LEGAL_REASONS = ("before its deadline", "the order timed out", "the gateway did not answer")
"""Why an order may be undone that was not told to fail: time ran out, or what it needed was down."""

LAST_FAILURE = "unavailable, as simulated"
"""What one that was to recover may be undone for: repetitions of its message made its attempts at the same time."""


@dataclass(frozen=True)
class Ended:
    """One order as the database tells it: what it came with, and how its saga ended."""

    key: str
    order_id: str
    status: str
    error: str | None
    seconds: float


def ended_orders(shop: Shop) -> list[Ended]:
    """Return every order that a key got, with how it ended."""
    query = (
        select(OrderRequest.key, Order.id, Order.created_at, SagaInstance)
        .join(Order, Order.id == OrderRequest.order_id)
        .join(SagaInstance, SagaInstance.aggregate_id == Order.id)
    )
    with shop.here.database.reading() as session:
        return [
            Ended(key.removeprefix("key:"), order_id, saga.status, saga.error, _seconds(placed, saga.updated_at))
            for key, order_id, placed, saga in session.execute(query)
        ]


def orders_without_a_key(shop: Shop) -> Iterator[str]:
    """Name the orders that no key stands for: every request had one, so they are somebody's second order."""
    query = select(Order.id).where(Order.id.not_in(select(OrderRequest.order_id)))
    with shop.here.database.reading() as session:
        for order_id in session.scalars(query):
            yield f"order {order_id} has no key: its request was taken for two"


def unsettled(shop: Shop) -> int:
    """Return how many sagas move and how many notices are still to be handled."""
    moving = "SELECT count(*) FROM saga_instances WHERE status IN ('pending', 'running', 'compensating')"
    (sagas,), (notices,) = shop.rows(moving)[0], shop.rows("SELECT count(*) FROM outbox")[0]
    return int(sagas + notices)


def stuck_sagas(shop: Shop) -> list[SagaInstance]:
    """Return the sagas that wait for a person."""
    with shop.here.database.reading() as session:
        return list(session.scalars(select(SagaInstance).where(SagaInstance.status == SagaStatus.STUCK)))


def stuck_forward(stuck: Sequence[SagaInstance]) -> Iterator[str]:
    """Name the sagas that got stuck on their way forward: only what cannot be undone may wait for a person."""
    for saga in stuck:
        if saga.state != COMPENSATION_STARTED:
            yield f"saga {saga.id} was stuck going forward: {saga.stuck_reason}"


def judge(wishes: Sequence[Wish], answered: Mapping[str, str], ended: Sequence[Ended]) -> Iterator[str]:
    """Name every order that was lost or doubled, did not settle, or ended as it must not."""
    kept = {order.key: order for order in ended}
    for wish in wishes:
        order = kept.get(wish.key)
        if order is None:
            yield f"{wish.key}: no order is kept"
        elif wish.key not in answered:
            yield f"{wish.key}: it was never accepted"
        elif answered[wish.key] != order.order_id:
            yield f"{wish.key}: the client was told {answered[wish.key]}, kept is {order.order_id}"
        else:
            yield from _judge_end(wish, order)


def _judge_end(wish: Wish, order: Ended) -> Iterator[str]:
    what = f"{wish.key} ({order.order_id}, {wish.body['saga_type']}, {wish.body.get('simulate', {})})"
    if order.status not in TERMINAL:
        yield f"{what} is {order.status}: {order.error}"
    elif wish.doomed and order.status == SagaStatus.COMPLETED:
        yield f"{what} is completed, and had to fail"
    elif not wish.doomed and order.status == SagaStatus.COMPENSATED and not _legal(wish, order):
        yield f"{what} was undone for no good reason: {order.error}"


def healthy_undone(wishes: Sequence[Wish], ended: Sequence[Ended]) -> "Counter[str]":
    """Count by reason the orders that were undone without having been told to fail."""
    healthy = {wish.key for wish in wishes if not wish.doomed}
    undone = [order for order in ended if order.key in healthy and order.status == SagaStatus.COMPENSATED]
    return Counter(str(order.error).splitlines()[0] for order in undone)


def _legal(wish: Wish, order: Ended) -> bool:
    legal = (*LEGAL_REASONS, LAST_FAILURE) if "simulate" in wish.body else LEGAL_REASONS
    return any(reason in (order.error or "") for reason in legal)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
