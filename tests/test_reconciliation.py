"""Whether an order's money, stock and parcel net out, as its ledger says."""

from decimal import Decimal

import pytest
from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.manual_completion import ManualCompletion
from tests.testkit.messages import Post
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import queries, reconciliation
from workflows.read_side.reconciliation import Balance, BalanceStatus

BOOKS = (Item("item-001", 2), Item("product-1", 1))
TOTAL, NOTHING = Decimal(1100), Decimal(0)

both = pytest.mark.parametrize("pattern", Pattern)


def order(pattern: Pattern, **simulate: str) -> PlacedOrder:
    return place(NewOrder(BOOKS, pattern, simulate=tuple(simulate.items())))


def balance_of(placed: PlacedOrder) -> Balance:
    found = reconciliation.of(queries.saga(placed.saga_id))
    assert found is not None
    return found


def statuses(found: Balance) -> tuple[BalanceStatus, BalanceStatus, BalanceStatus]:
    return found.money.status, found.stock.status, found.parcel.status


@both
def test_a_completed_order_is_paid_handed_over_and_fetched(post: Post, pattern: Pattern) -> None:
    placed = order(pattern)
    assert balance_of(placed).status is BalanceStatus.PENDING, "while it moves nothing is said"
    post.deliver_all()

    found = balance_of(placed)

    assert (found.money.charged, found.money.refunded, found.money.net) == (TOTAL, NOTHING, TOTAL)
    assert (found.stock.reserved, found.stock.shipped, found.stock.held) == (3, 3, 0)
    assert (found.parcel.booked, found.parcel.active) == (1, 1)
    assert (found.status, found.compensating) == (BalanceStatus.BALANCED, False)


@both
def test_a_compensated_order_leaves_nothing_behind(here: Runtime, pattern: Pattern) -> None:
    found = balance_of(order(pattern, shipping="decline"))

    assert (found.money.charged, found.money.refunded, found.money.net) == (TOTAL, TOTAL, NOTHING)
    assert (found.stock.reserved, found.stock.released, found.stock.held) == (3, 3, 0)
    assert found.parcel.active == 0
    assert (found.status, found.compensating) == (BalanceStatus.BALANCED, True)


@both
def test_a_stuck_order_says_what_is_still_out_until_it_is_given_back_by_hand(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:99")

    found = balance_of(placed)

    assert (found.money.status, found.money.net) == (BalanceStatus.OUTSTANDING, TOTAL)
    assert found.parcel.status is BalanceStatus.BALANCED
    # a conductor undoes in reverse, and has not come to the stock; without one nobody waits for the other
    conducted = pattern is Pattern.ORCHESTRATION
    assert found.stock.status is (BalanceStatus.OUTSTANDING if conducted else BalanceStatus.BALANCED)
    assert found.status is BalanceStatus.OUTSTANDING
    sagas.skip(placed.saga_id, ManualCompletion(by="Ann"))
    found = balance_of(placed)
    assert (found.money.refunded, found.money.refunded_manually, found.money.net) == (NOTHING, TOTAL, NOTHING)
    assert found.status is BalanceStatus.BALANCED


def test_an_order_stuck_past_the_point_of_no_return_is_paid_and_not_handed_over(here: Runtime) -> None:
    with runtime.current().database.transaction() as session:
        session.execute(
            text("CREATE TRIGGER no_more BEFORE UPDATE ON stock_reservations BEGIN SELECT RAISE(FAIL, 'no'); END")
        )

    found = balance_of(order(Pattern.ORCHESTRATION))

    assert statuses(found) == (BalanceStatus.BALANCED, BalanceStatus.OUTSTANDING, BalanceStatus.BALANCED)
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
    placed = order(Pattern.ORCHESTRATION)
    with runtime.current().database.transaction() as session:
        session.execute(text(tampered))

    found = balance_of(placed)

    assert [status is BalanceStatus.MISMATCH for status in statuses(found)] == [place == wrong for place in range(3)]
    assert found.status is BalanceStatus.MISMATCH
