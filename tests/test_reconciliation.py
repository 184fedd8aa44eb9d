"""Whether an order's money, stock and parcel net out, as its ledger says; how that is shown: web/test_saga_page.py."""

from decimal import Decimal

import pytest
from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from tests.testkit.messages import Post
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import queries, reconciliation
from workflows.read_side.reconciliation import Balance, BalanceStatus

BALANCED, OUTSTANDING, MISMATCH = BalanceStatus.BALANCED, BalanceStatus.OUTSTANDING, BalanceStatus.MISMATCH


def order(pattern: Pattern = Pattern.ORCHESTRATION, **simulate: str) -> PlacedOrder:
    items = (Item("item-001", 2), Item("product-1", 1))
    return place(NewOrder(items, pattern, simulate=tuple(simulate.items())))


def balance_of(placed: PlacedOrder) -> Balance:
    found = reconciliation.of(queries.saga(placed.saga_id))
    assert found is not None
    return found


def statuses(found: Balance) -> list[BalanceStatus]:
    return [found.money.status, found.stock.status, found.parcel.status]


@pytest.mark.parametrize("pattern", Pattern)
def test_an_order_of_several_books_is_pending_until_it_is_paid_handed_over_and_fetched(
    post: Post, pattern: Pattern
) -> None:
    placed = order(pattern)
    assert balance_of(placed).status is BalanceStatus.PENDING
    post.deliver_all()

    found = balance_of(placed)

    assert (found.money.charged, found.money.net) == (Decimal(1100), Decimal(1100))
    assert (found.stock.shipped, found.stock.held) == (3, 0)
    assert (found.parcel.booked, found.parcel.active) == (1, 1)
    assert (found.status, found.compensating) == (BALANCED, False)


@pytest.mark.parametrize("pattern", Pattern)
def test_what_is_stuck_on_the_refund_still_has_the_money_out(here: Runtime, pattern: Pattern) -> None:
    found = balance_of(order(pattern, shipping="decline", payments="undo-fail:99"))

    assert (found.money.net, found.status) == (Decimal(1100), OUTSTANDING)
    # a conductor undoes in reverse, and has not come to the stock; without one nobody waits for the other
    conducted = pattern is Pattern.ORCHESTRATION
    assert statuses(found) == [OUTSTANDING, OUTSTANDING if conducted else BALANCED, BALANCED]


def test_an_order_stuck_past_the_point_of_no_return_is_paid_and_not_handed_over(here: Runtime) -> None:
    with runtime.current().database.transaction() as session:
        session.execute(
            text("CREATE TRIGGER no_more BEFORE UPDATE ON stock_reservations BEGIN SELECT RAISE(FAIL, 'no'); END")
        )

    found = balance_of(order())

    assert statuses(found) == [BALANCED, OUTSTANDING, BALANCED]
    assert (found.stock.held, found.compensating) == (3, False)


@pytest.mark.parametrize(
    ("tampered", "wrong"),
    [
        ("DELETE FROM payment_provider_ledger WHERE kind = 'capture'", 0),
        ("UPDATE stock_reservations SET status = 'reserved'", 1),
        ("DELETE FROM carrier_ledger", 2),
    ],
)
def test_what_does_not_add_up_is_seen(here: Runtime, tampered: str, wrong: int) -> None:
    placed = order()
    with runtime.current().database.transaction() as session:
        session.execute(text(tampered))

    found = balance_of(placed)

    assert [status is MISMATCH for status in statuses(found)] == [place == wrong for place in range(3)]
    assert found.status is MISMATCH
