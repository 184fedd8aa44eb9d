"""Placing orders: what is repeated, and what only looks like it."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from app import runtime
from app.errors import Conflict, Invalid
from app.runtime import Runtime
from tasks.shipping import Shipment
from tests.testkit.messages import Post
from workflows import orders
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, place


def request(**changes: Any) -> NewOrder:
    return NewOrder(**{"items": (Item("item-001", 1),), "pattern": Pattern.ORCHESTRATION, **changes})


def test_a_repetition_under_a_second_key_takes_that_key_too(here: Runtime) -> None:
    place(request(order_id="mine"), "first")
    assert place(request(order_id="mine"), "second").replayed

    with pytest.raises(Invalid, match="the key was used before"):
        place(request(order_id="another"), "second")


def test_the_same_amount_written_differently_is_the_same_request(here: Runtime) -> None:
    place(request(amount=Decimal(500)), "key")

    assert place(request(amount=Decimal("500.00")), "key").replayed


def test_an_unknown_customer_is_named_before_a_taken_id_and_leaves_nothing(here: Runtime) -> None:
    taken = place(request()).order_id  # also one that the shop gave out itself
    with pytest.raises(Invalid, match="already"):
        place(request(order_id=taken))

    for wrong in (request(customer_id="nobody"), request(customer_id="nobody", order_id=taken)):
        with pytest.raises(Invalid, match="there is no customer nobody") as refusal:
            place(wrong, "key")
        assert refusal.value.field == "customer_id"

    assert not place(request(), "key").replayed


def test_those_who_order_at_the_same_time_as_nobody_get_their_orders(post: Post) -> None:
    customers = ["guest", "customer-001", "nobody", "customer-123"] * 4

    with ThreadPoolExecutor(16) as clients:
        asked = {clients.submit(place, request(customer_id=customer)): customer for customer in customers}

    for placed, customer in asked.items():
        if customer == "nobody":
            assert str(placed.exception()) == "there is no customer nobody"
        else:
            assert not placed.result().replayed
    post.deliver_all()
    assert list(audit()) == []


def test_one_order_is_made_of_many_requests_at_once(here: Runtime) -> None:
    with ThreadPoolExecutor(8) as clients:
        placed = list(clients.map(lambda _: place(request(order_id="mine"), "key"), range(16)))

    assert {order.order_id for order in placed} == {"mine"}
    assert [order.replayed for order in placed].count(False) == 1
    assert list(audit()) == []


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_address_can_be_changed_until_the_carrier_could_be_booked(post: Post, pattern: Pattern) -> None:
    order_id = place(request(pattern=pattern)).order_id
    orders.change_address(order_id, "2 New Street")
    while not any("ship" in name for name in post.names()[:1]):
        post.deliver(post.names()[0])
        if pattern is Pattern.CHOREOGRAPHY and post.names().count("shipping.ship_when_reserved_and_paid") == 2:
            break

    with pytest.raises(Conflict, match="being shipped"):
        orders.change_address(order_id, "3 Late Street")
    post.deliver_all()

    with runtime.current().database.reading() as session:
        shipment = session.scalars(select(Shipment).where(Shipment.order_id == order_id)).one()
    assert shipment.shipping_address == "2 New Street"
    assert list(audit()) == []
