"""Every order of delivery of the messages of one order, without a fault, also with a cancellation at every point.

Two deliveries in either order often lead to the same state: the same rows but for ids and times, and the same messages
waiting. From there the rest is the same, so each state is explored once and its ways are counted, not walked again;
unless every way is to be walked, which small orders allow, and which shows that the states tell enough.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.simulation.crew import in_world
from tests.simulation.messages import Message
from tests.simulation.orders import CHOREOGRAPHED, KINDS, SOLD_OUT, UNPAYABLE, an_order
from tests.simulation.verdict import Violated, judge, unsettled
from tests.simulation.world import World
from workflows.orders import NewOrder

State = tuple[object, ...]

_LOOKS = (
    "SELECT status, state, current_step FROM saga_instances",
    "SELECT step, operation, status, attempts, event_id IS NULL FROM saga_steps ORDER BY step, operation",
    "SELECT event_type FROM events ORDER BY event_type",
    "SELECT subscriber, event_type FROM outbox JOIN events ON id = event_id ORDER BY subscriber, event_type",
    "SELECT status FROM orders",
    "SELECT status FROM payments",
    "SELECT status FROM shipments",
    "SELECT book_id, quantity, status FROM stock_reservations ORDER BY book_id",
    "SELECT book_id, available_stock, reserved_stock FROM inventory ORDER BY book_id",
    "SELECT kind, amount FROM payment_provider_ledger ORDER BY kind",
    "SELECT kind FROM carrier_ledger ORDER BY kind",
    "SELECT kind FROM notifications ORDER BY kind",
)
"""All that the database holds of one order, except ids, times, reasons given to people, and the order of its events:
reactions look at which there are.
"""


@dataclass
class Explored:
    """What was found: how many ways there are, through how many states, and how the order ended on them."""

    ways: int = 0
    states: int = 0
    deliveries: int = 0
    ends: int = 0
    endings: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Journey:
    """What is to be explored: an order, with one request to cancel it at every point or without, way by way or not."""

    request: NewOrder
    cancel: bool = False
    walk_every_way: bool = False


def explore(world: World, journey: Journey) -> Explored:
    """Deliver an order's messages in every order.

    Raises Violated, with the schedule, where an end is wrong.
    """
    try:
        return Explorer(world, journey).explore()
    except Violated as violated:
        raise Violated("\n".join([str(violated), *world.journal])) from None


class Explorer:
    """One exploration, depth first."""

    def __init__(self, world: World, journey: Journey) -> None:
        self.world = world
        self.journey = journey
        self.explored = Explored()
        self._ways: dict[State, int] = {}

    def explore(self) -> Explored:
        """Place the order and explore; returns what there was."""
        self.world.reset(0)
        self.world.place(self.journey.request)
        self.explored.ways = self._ways_from(self.journey.cancel)
        self.explored.states = len(self._ways)
        return self.explored

    def _ways_from(self, may_cancel: bool) -> int:
        if self.journey.walk_every_way:
            return self._ways_of_new_state(may_cancel)
        state = self._state(may_cancel)
        if state not in self._ways:
            self._ways[state] = self._ways_of_new_state(may_cancel)
        return self._ways[state]

    def _ways_of_new_state(self, may_cancel: bool) -> int:
        moment = self.world.moment()
        ways = 0
        for do, times, still in list(self._choices(may_cancel)):
            self.world.go_back(moment)
            do()
            ways += times * self._ways_from(still)
        if not moment.post:
            self.world.go_back(moment)
            self._end()
            ways += 1
        return ways

    def _choices(self, may_cancel: bool) -> Iterator[tuple[Callable[[], object], int, bool]]:
        """Yield what may happen next, in how many ways, and whether the customer may cancel after it."""
        alike: dict[object, list[Message]] = {}
        for message in self.world.post:
            which = message.number if self.journey.walk_every_way else self._kind(message)
            alike.setdefault(which, []).append(message)
        for messages in alike.values():
            yield partial(self._deliver, messages[0]), len(messages), may_cancel
        if may_cancel:
            yield partial(self.world.cancel, str(self.journey.request.order_id)), 1, False

    def _deliver(self, message: Message) -> None:
        self.explored.deliveries += 1
        self.world.deliver(message)

    def _state(self, may_cancel: bool) -> State:
        waiting = tuple(sorted(self._kind(message) for message in self.world.post))
        return (may_cancel, waiting, *(tuple(self.world.rows(look)) for look in _LOOKS))

    def _kind(self, message: Message) -> tuple[str, str]:
        """Return what a message is, whatever its number: its task, its event, and what Celery sends after it."""
        return self.world.describe(message).partition(", ")[2], message.followers

    def _end(self) -> None:
        if left := unsettled(self.world):
            raise Violated(f"nothing waits, and not all is settled: {left}")
        judge(self.world)
        [[status]] = self.world.rows("SELECT status FROM orders")
        self.explored.ends += 1
        self.explored.endings.add(status)


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


def expected(outcome: str) -> str:
    return "completed" if outcome == "completed" else "cancelled"


@pytest.fixture(scope="module")
def explored(crew: ProcessPoolExecutor) -> dict[tuple[str, str], Future[Explored]]:
    """Every journey: by its outcome without a cancellation, and how; with one, by the kind of saga."""
    journeys = {("way by way", outcome): Journey(order, walk_every_way=True) for outcome, order in ORDERS.items()}
    journeys |= {("by states", outcome): Journey(order) for outcome, order in ORDERS.items()}
    journeys |= {
        (kind, outcome): Journey(order, cancel=True) for kind in KINDS for outcome, order in outcomes(kind).items()
    }
    return {key: crew.submit(in_world(explore), journey) for key, journey in journeys.items()}


@pytest.mark.parametrize("how", ["way by way", "by states"])
@pytest.mark.parametrize("outcome", WAYS)
def test_every_order_of_delivery(how: str, outcome: str, explored: dict[tuple[str, str], Future[Explored]]) -> None:
    found = explored[how, outcome].result()

    print(f"{found.ways:,} ways through {found.states:,} states, {found.deliveries:,} deliveries")
    assert found.ways == WAYS[outcome]
    assert found.ends == WAYS[outcome] or how == "by states"
    assert found.endings == {expected(outcome)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", WAYS)
def test_a_cancellation_at_every_point_of_every_order_of_delivery(
    kind: str, outcome: str, explored: dict[tuple[str, str], Future[Explored]]
) -> None:
    found = explored[kind, outcome].result()

    print(f"{found.ways:,} ways through {found.states:,} states, {found.deliveries:,} deliveries")
    # a completed order was cancelled too late
    assert found.endings == {"cancelled", expected(outcome)}
    assert found.ways > 10
