"""Every kill of a worker that does messages together: each batch is cut off once at each of its boundaries."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.messages import Message
from tests.simulation.mishaps import Boundary, Kind, Mishap
from tests.simulation.orders import KINDS, SCARCE, an_order
from tests.simulation.verdict import Violated, judge, settle
from tests.simulation.world import Moment, World
from workflows.orders import NewOrder


@dataclass(frozen=True)
class Crowd:
    """Orders that are placed before the first message is delivered, and how many of them end in which way."""

    requests: tuple[NewOrder, ...]
    endings: dict[str, int]


@dataclass(frozen=True)
class Cut:
    """A kill of a worker: of which batch, from which moment on, at which boundary."""

    batch: tuple[Message, ...]
    before: Moment
    number: int
    boundary: Boundary


@dataclass
class Tally:
    """How many batches of each task there were, how many kills at each kind of boundary, and what ended wrongly."""

    batches: Counter[str] = field(default_factory=Counter)
    kills: Counter[Boundary] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)


def _crowds() -> Iterator[tuple[str, Crowd]]:
    for kind in KINDS:
        scarce = tuple(an_order(number, kind, SCARCE, 2) for number in (1, 2, 3))
        yield f"{kind}: too little for the third", Crowd(scarce, {"completed": 2, "cancelled": 1})
        declined = tuple(an_order(number, kind, shipping="decline") for number in (1, 2))
        yield f"{kind}: the carrier declines both", Crowd(declined, {"cancelled": 2})


CROWDS = dict(_crowds())


def cut_all(world: World, name: str) -> Tally:
    """Place a crowd's orders, and cut off every batch of theirs at every boundary.

    At each once so that what was acknowledged stays acknowledged, and once so that no acknowledgement has left.
    """
    crowd, tally = CROWDS[name], Tally()
    for cut in list(_all_cuts(world, crowd, tally)):
        for again in ((), cut.batch):
            world.go_back(cut.before)
            tally.kills[cut.boundary] += 1
            try:
                _kill(world, cut, again)
                settle(world)
                _judge(world, crowd)
            except Exception as error:
                tally.finds.append("\n".join([f"{name}: {type(error).__name__}: {error}", *world.journal]))
    return tally


def _kill(world: World, cut: Cut, again: tuple[Message, ...]) -> None:
    if not world.deliver_together(cut.batch, Mishap(Kind.KILL, cut.number), again=again).killed:
        raise Violated("nobody was killed")


def _all_cuts(world: World, crowd: Crowd, tally: Tally) -> Iterator[Cut]:
    """Have the crowd's messages delivered with as much company as they have, and yield every cut there could be."""
    world.reset(0)
    for request in crowd.requests:
        world.place(request)
    while world.post:
        message = world.post[0]
        batch = (message, *world.company(message))
        if len(batch) == 1:
            world.deliver(message)
            continue
        tally.batches[message.task] += 1
        before = world.moment()
        passed = world.deliver_together(batch).passed
        for number, boundary in enumerate(passed):
            yield Cut(batch, before, number, boundary)
    _judge(world, crowd)


def _judge(world: World, crowd: Crowd) -> None:
    judge(world)
    endings = dict(world.rows("SELECT status, count(*) FROM orders GROUP BY status"))
    if endings != crowd.endings:
        raise Violated(f"the orders ended as {endings}, not as {crowd.endings}")
