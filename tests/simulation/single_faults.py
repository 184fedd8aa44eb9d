"""Every single fault: each order is run once without, and then again with each fault at each place in turn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from tests.simulation.mishaps import PUBLISHING, Boundary, Kind, Mishap
from tests.simulation.orders import KINDS, PAYMENT_FIRST, SOLD_OUT, UNPAYABLE, an_order
from tests.simulation.verdict import deliver_all, judge, settle
from tests.simulation.world import Moment, World
from workflows.orders import NewOrder


class Fault(StrEnum):
    """What goes wrong, once, with one delivery."""

    KILLED = "worker killed at a boundary, message delivered again"
    KILLED_AND_LOST = "worker killed at a boundary, message lost with it"
    REFUSED_BEFORE = "publishing fails before the broker took the message"
    REFUSED_AFTER = "publishing fails after the broker took the message"
    HELD_UP = "worker held up at a boundary until the deadline has passed and all others are through"
    LOST = "message lost"
    UNACKNOWLEDGED = "worker killed before the acknowledgement: message delivered twice in a row"
    AGAIN_AT_THE_END = "message delivered again when all is settled"
    LATE = "message delivered when the deadline has passed and all others are through"
    CANCELLED = "order cancelled by its customer before the delivery"


OUTCOME_KNOWN = frozenset(Fault) - {Fault.HELD_UP, Fault.LATE, Fault.CANCELLED}
"""Faults that only cost time: the order ends as it does without them."""


@dataclass(frozen=True)
class Scenario:
    """An order, and how it ends when nothing goes wrong but what it asks for itself."""

    name: str
    request: NewOrder
    outcome: str


@dataclass(frozen=True)
class Place:
    """Where a fault strikes: at which delivery, from which moment on; ``boundary`` is one that the delivery passes."""

    delivery: int
    before: Moment
    boundary: int | None = None


@dataclass
class Tally:
    """How many runs there were of each fault, and the schedules of those that ended wrongly."""

    runs: Counter[Fault] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)


def _scenarios() -> Iterator[Scenario]:
    for kind in KINDS:
        yield Scenario(f"{kind}: completed", an_order(1, kind), "completed")
        yield Scenario(f"{kind}: sold out", an_order(1, kind, SOLD_OUT), "cancelled")
        yield Scenario(f"{kind}: payment declined", an_order(1, kind, UNPAYABLE), "cancelled")
        yield Scenario(f"{kind}: carrier declines", an_order(1, kind, shipping="decline"), "cancelled")
        if kind != PAYMENT_FIRST:  # it has the steps of the other orchestrated one, which has been through this
            yield Scenario(f"{kind}: carrier's answers lost", an_order(1, kind, shipping="timeout"), "cancelled")


SCENARIOS = {scenario.name: scenario for scenario in _scenarios()}


def run_all(world: World, name: str) -> Tally:
    """Run a scenario once for every fault at every place."""
    scenario = SCENARIOS[name]
    tally = Tally()
    for fault, place in list(_all_faults(world, scenario)):
        world.go_back(place.before)
        tally.runs[fault] += 1
        try:
            _inject(world, scenario, fault, place)
            settle(world)
            judge(world, {"order-1": scenario.outcome} if fault in OUTCOME_KNOWN else None)
        except Exception as error:
            what = f"{name}, {fault}: {type(error).__name__}: {error}"
            tally.finds.append("\n".join([what, *world.journal]))
    return tally


def _all_faults(world: World, scenario: Scenario) -> Iterator[tuple[Fault, Place]]:
    """Run without a fault, and yield every fault that could occur on the way."""
    world.reset(0)
    before = world.moment()
    yield from _at_boundaries(0, before, world.place(scenario.request).passed)
    delivery = 0
    while world.post:
        delivery += 1
        before = world.moment()
        yield from _at_boundaries(delivery, before, world.deliver(world.post[0]).passed)
        for fault in (Fault.LOST, Fault.UNACKNOWLEDGED, Fault.AGAIN_AT_THE_END, Fault.LATE, Fault.CANCELLED):
            yield fault, Place(delivery, before)
    judge(world, {"order-1": scenario.outcome})


def _at_boundaries(delivery: int, before: Moment, passed: list[Boundary]) -> Iterator[tuple[Fault, Place]]:
    for number, boundary in enumerate(passed):
        place = Place(delivery, before, number)
        yield Fault.KILLED, place
        yield Fault.HELD_UP, place
        if delivery:
            yield Fault.KILLED_AND_LOST, place
        if boundary in PUBLISHING:
            yield Fault.REFUSED_BEFORE if boundary is Boundary.BEFORE_PUBLISHING else Fault.REFUSED_AFTER, place


def _inject(world: World, scenario: Scenario, fault: Fault, place: Place) -> None:
    others_go_on = partial(_others_go_on, world, scenario)
    kind = {Fault.REFUSED_BEFORE: Kind.REFUSE, Fault.REFUSED_AFTER: Kind.REFUSE, Fault.HELD_UP: Kind.PAUSE}
    mishap = None if place.boundary is None else Mishap(kind.get(fault, Kind.KILL), place.boundary, others_go_on)
    if place.delivery == 0:
        world.place(scenario.request, mishap)
        return
    message = world.post[0]
    match fault:
        case Fault.LOST:
            world.lose(message)
        case Fault.UNACKNOWLEDGED:
            world.deliver(message, again=True)
            world.deliver(message)
        case Fault.AGAIN_AT_THE_END:
            world.deliver(message, again=True)
            with world.held_back(message):
                settle(world)
        case Fault.LATE:
            with world.held_back(message):
                others_go_on()
        case Fault.CANCELLED:
            world.cancel("order-1")
        case Fault.KILLED_AND_LOST:
            world.deliver(message, mishap)
            world.lose(message)
        case _:
            world.deliver(message, mishap)


def _others_go_on(world: World, scenario: Scenario) -> None:
    """Let the deadline pass, run the sweep, and deliver everything that waits."""
    settings = world.here.settings
    choreographed = scenario.request.saga_type is None
    world.wait(1 + (settings.order_timeout_seconds if choreographed else settings.step_timeout_seconds))
    world.sweep()
    deliver_all(world)
