"""All orders of delivery of one choreographed order's messages, also with a cancellation at every point."""

from concurrent.futures import Future

import pytest

from tests.simulation.crew import Crew
from tests.simulation.interleavings import Explored, Journey, explore
from tests.simulation.orders import CHOREOGRAPHED, KINDS, SOLD_OUT, UNPAYABLE, an_order
from workflows.orders import NewOrder


def outcomes(kind: str) -> dict[str, NewOrder]:
    return {
        "completed": an_order(1, kind),
        "sold out": an_order(1, kind, SOLD_OUT),
        "payment declined": an_order(1, kind, UNPAYABLE),
        "carrier declines": an_order(1, kind, shipping="decline"),
    }


ORDERS = outcomes(CHOREOGRAPHED)

WAYS = {"completed": 54, "sold out": 55, "payment declined": 78, "carrier declines": 260}
"""How many orders of delivery there are; another number means that the choreography sends other messages."""


@pytest.mark.parametrize("outcome", WAYS)
def test_every_order_of_delivery_walked_one_by_one(outcome: str, crew: Crew) -> None:
    [explored] = crew.map(explore, [Journey(ORDERS[outcome], walk_every_way=True)])

    assert explored.ways == explored.ends == WAYS[outcome]
    assert explored.endings == {expected(outcome)}


def test_every_order_of_delivery_through_its_states(crew: Crew) -> None:
    explored = dict(zip(ORDERS, crew.map(explore, map(Journey, ORDERS.values())), strict=True))

    told(explored)
    assert {outcome: one.ways for outcome, one in explored.items()} == WAYS
    assert {outcome: one.endings for outcome, one in explored.items()} == {name: {expected(name)} for name in ORDERS}


@pytest.fixture(scope="module")
def cancelled(crew: Crew) -> dict[str, Future[Explored]]:
    """Every journey with a cancellation, under way from now on."""
    return {
        f"{kind}: {outcome}": crew.submit(explore, Journey(request, cancel=True))
        for kind in KINDS
        for outcome, request in outcomes(kind).items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", WAYS)
def test_a_cancellation_at_every_point_of_every_order_of_delivery(
    kind: str, outcome: str, cancelled: dict[str, Future[Explored]]
) -> None:
    explored = cancelled[f"{kind}: {outcome}"].result()

    told({outcome: explored})
    # a completed order was cancelled too late
    assert explored.endings == {"cancelled", expected(outcome)}
    assert explored.ways > 10


def expected(outcome: str) -> str:
    return "completed" if outcome == "completed" else "cancelled"


def told(explored: dict[str, Explored]) -> None:
    for outcome, one in explored.items():
        print(f"{outcome}: {one.ways:,} ways through {one.states:,} states, {one.deliveries:,} deliveries")
