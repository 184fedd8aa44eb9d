"""What became of the orders: read from database and logs, held against what they were told to do, and printed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from durable_sagas.definition import COMPENSATION_STARTED, TERMINAL, SagaStatus
from durable_sagas.models import SagaInstance
from tasks.orders import Order, OrderRequest
from tests.chaos.plan import Wish
from tests.testkit.shop import Shop

LEGAL_REASONS = ("before its deadline", "the order timed out", "the gateway did not answer")
"""Why an order may be undone that was not told to fail: time ran out, or what it needed was down."""

LAST_FAILURE = "unavailable, as simulated"
"""What one that was to recover may be undone for: repetitions of its message made its attempts at the same time."""

MAX_VIOLATIONS = 20
REDRIVEN = "re-drives by the sweep"
LOST = "messages known as lost"
"""How many messages were waiting in a broker when it was made to forget them."""


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
            Ended(key.removeprefix("key:"), order_id, saga.status, saga.error, (saga.updated_at - at).total_seconds())
            for key, order_id, at, saga in session.execute(query)
        ]


def orders_without_a_key(shop: Shop) -> Iterator[str]:
    """Name the orders that no key stands for: every request had one, so they are a request's second order."""
    for (order_id,) in shop.rows("SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM order_requests)"):
        yield f"order {order_id} has no key: its request was taken for two"


def unsettled(shop: Shop) -> int:
    """Return how many sagas move and how many notices are still to be handled."""
    moving = "SELECT count(*) FROM saga_instances WHERE status IN ('pending', 'running', 'compensating')"
    (sagas,), (notices,) = shop.rows(moving)[0], shop.rows("SELECT count(*) FROM outbox")[0]
    return int(sagas + notices)


def stuck_sagas(shop: Shop) -> list[SagaInstance]:
    """Return the sagas that wait for an operator."""
    with shop.here.database.reading() as session:
        return list(session.scalars(select(SagaInstance).where(SagaInstance.status == SagaStatus.STUCK)))


def stuck_forward(stuck: Sequence[SagaInstance]) -> Iterator[str]:
    """Name the sagas that got stuck on their way forward: only a failed compensation may wait for an operator."""
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
        elif wrong := _wrong_end(wish, order):
            yield f"{wish.key} ({order.order_id}, {wish.body['saga_type']}, {wish.body.get('simulate', {})}) {wrong}"


def _wrong_end(wish: Wish, order: Ended) -> str | None:
    if order.status not in TERMINAL:
        return f"is {order.status}: {order.error}"
    if wish.doomed and order.status == SagaStatus.COMPLETED:
        return "is completed, and had to fail"
    legal = (*LEGAL_REASONS, LAST_FAILURE) if "simulate" in wish.body else LEGAL_REASONS
    undone = not wish.doomed and order.status == SagaStatus.COMPENSATED
    if undone and not any(reason in (order.error or "") for reason in legal):
        return f"was undone for no good reason: {order.error}"
    return None


def healthy_undone(wishes: Sequence[Wish], ended: Sequence[Ended]) -> "Counter[str]":
    """Count by reason the orders that were undone without having been told to fail."""
    healthy = {wish.key for wish in wishes if not wish.doomed}
    undone = [order for order in ended if order.key in healthy and order.status == SagaStatus.COMPENSATED]
    return Counter(str(order.error).splitlines()[0] for order in undone)


def redriven(folder: Path) -> int:
    """Count in the roles' logs what the sweep drove on."""
    text = b"".join(path.read_bytes() for path in folder.glob("*.log"))
    return text.count(b" is driven on by the sweep") + text.count(b" is overdue")


@dataclass(frozen=True)
class Report:
    """What came of a run: counts, and what must not be."""

    title: str
    counts: Mapping[str, Counter[str]]
    """By what they are of, and kind by kind."""
    numbers: Mapping[str, int]
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        yield self.title
        for what, counter in self.counts.items():
            parts = ", ".join(f"{name} {number}" for name, number in counter.most_common())
            yield f"  {what:<26}{counter.total():>6}" + (f"  ({parts})" if parts else "")
        yield from (f"  {what:<26}{number:>6}" for what, number in self.numbers.items())
        yield f"  {'violations':<26}{len(self.violations):>6}"
        yield from (f"VIOLATED  {violation}" for violation in self.violations[:MAX_VIOLATIONS])
        if len(self.violations) > MAX_VIOLATIONS:
            yield f"… and {len(self.violations) - MAX_VIOLATIONS} more"
