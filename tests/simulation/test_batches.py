"""Every batch of every kind of saga, cut off by a kill at every boundary: nothing is lost and nothing done twice."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.simulation.crew import in_world
from tests.simulation.messages import Message
from tests.simulation.mishaps import PUBLISHING, Boundary, Kind, Mishap
from tests.simulation.orders import KINDS, SCARCE, an_order
from tests.simulation.verdict import Violated, judge, settle
from tests.simulation.world import Moment, World
from workflows.orders import NewOrder

BATCHED = {"orders", "inventory", "payments", "shipping", "orchestrator"}
"""Whose messages are batched; of payments and shipping those that call no gateway."""


@dataclass(frozen=True)
class Crowd:
    """Orders that are placed before the first message is delivered, and how many of them end in which way."""

    requests: tuple[NewOrder, ...]
    endings: dict[str, int]


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
    for batch, before, number, boundary in list(_all_cuts(world, crowd, tally)):
        for again in ((), batch):
            world.go_back(before)
            tally.kills[boundary] += 1
            try:
                if not world.deliver_together(batch, Mishap(Kind.KILL, number), again=again).killed:
                    raise Violated("nobody was killed")
                settle(world)
                _judge(world, crowd)
            except Exception as error:
                tally.finds.append("\n".join([f"{name}: {type(error).__name__}: {error}", *world.journal]))
    return tally


def _all_cuts(world: World, crowd: Crowd, tally: Tally) -> Iterator[tuple[tuple[Message, ...], Moment, int, Boundary]]:
    """Have the crowd's messages delivered in batches as large as they can be.

    Yields every cut: of which batch, from which moment on, at which boundary, and what kind of boundary that is.
    """
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
        for number, boundary in enumerate(world.deliver_together(batch).passed):
            yield batch, before, number, boundary
    _judge(world, crowd)


def _judge(world: World, crowd: Crowd) -> None:
    judge(world)
    endings = dict(world.rows("SELECT status, count(*) FROM orders GROUP BY status"))
    if endings != crowd.endings:
        raise Violated(f"the orders ended as {endings}, not as {crowd.endings}")


@pytest.fixture(scope="module")
def tallies(crew: ProcessPoolExecutor) -> dict[str, Future[Tally]]:
    return {name: crew.submit(in_world(cut_all), name) for name in CROWDS}


@pytest.mark.parametrize("crowd", CROWDS)
def test_no_kill_in_the_middle_of_a_batch_breaks_an_order(crowd: str, tallies: dict[str, Future[Tally]]) -> None:
    tally = tallies[crowd].result()

    assert not tally.finds, "\n\n".join(tally.finds[:3])
    assert tally.kills.total() >= 50


def test_what_was_cut_off_and_where(tallies: dict[str, Future[Tally]]) -> None:
    done = [tally.result() for tally in tallies.values()]
    kills = sum((tally.kills for tally in done), Counter[Boundary]())

    print(*(f"{count:4} kills {boundary}" for boundary, count in kills.items()), sep="\n")
    assert {task.partition(".")[0] for tally in done for task in tally.batches} == BATCHED
    # in the first phase; and when its work was committed, before, between and after the messages of its tasks
    for boundary in (Boundary.BEFORE_TRANSACTION, Boundary.AFTER_COMMIT, *PUBLISHING):
        assert kills[boundary] >= 60, boundary
