"""Many faults at once: orders that compete for stock, on a schedule drawn from a seed."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.simulation.messages import Message
from tests.simulation.mishaps import Kind, Mishap
from tests.simulation.orders import CHOREOGRAPHED, KINDS, PLENTY, SCARCE, SOLD_OUT, UNPAYABLE, an_order
from tests.simulation.verdict import judge, settle, unsettled
from tests.simulation.world import World
from workflows.orders import NewOrder

STEPS = 22
"""How many things the schedule decides before the faults stop."""

BOUNDARIES = 8
"""A mishap is drawn for one of so many boundaries; most deliveries have fewer, and then nothing happens."""

DEPTH = 2
"""How many workers may be held up at the same time."""

FAULTS = {
    "orders": ("decline", "fail:2", "fail:9", "undo-fail:2"),
    "inventory": ("decline", "fail:2", "fail:4", "undo-fail:2", "undo-fail:8"),
    "payments": ("decline", "fail:1", "fail:3", "timeout", "undo-fail:2", "undo-fail:8"),
    "shipping": ("decline", "decline", "fail:2", "fail:4", "timeout", "undo-fail:8"),
}


@dataclass(frozen=True)
class Find:
    """A run that ended wrongly."""

    seed: int
    what: str
    schedule: tuple[str, ...]

    def __str__(self) -> str:
        again = f"again: make simulate SEED={self.seed} RUNS=1"
        return "\n".join([f"seed {self.seed}: {self.what}", *self.schedule, again])


class Schedule:
    """One run: what happens next, until the faults stop."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self._to_place = self._orders()
        self._placed: list[str] = []
        self._held_up = 0
        self._slow = self.chance.randrange(5)

    def play(self) -> None:
        """Decide until it is enough or nothing is left to happen."""
        world = self.world
        for _ in range(STEPS):
            if self._placed and not self._to_place and not world.post and not unsettled(world):
                return
            self._next()

    @contextmanager
    def some_messages_delayed(self) -> Iterator[None]:
        """Keep about half of what waits under way while the block runs: it comes when nobody expects it any more."""
        delayed = [message for message in self.world.post if self.chance.random() < 0.5]
        with ExitStack() as stack:
            for message in reversed(delayed):
                stack.enter_context(self.world.held_back(message))
            yield

    def _orders(self) -> list[NewOrder]:
        number = self.chance.choices((2, 3, 4), weights=(90, 8, 2))[0]
        return [self._order(n) for n in range(1, number + 1)]

    def _order(self, number: int) -> NewOrder:
        chance = self.chance
        kind = chance.choice(KINDS)
        book = chance.choices((SCARCE, PLENTY, SOLD_OUT, UNPAYABLE), weights=(72, 4, 12, 12))[0]
        simulate = {}
        if chance.random() < 0.4:
            service = chance.choice(list(FAULTS))
            fault = chance.choice(FAULTS[service])
            if (kind, service, fault) != (CHOREOGRAPHED, "orders", "decline"):
                simulate[service] = fault
        return an_order(number, kind, book, chance.choice((2, 3)), **simulate)

    def _next(self) -> None:
        if not self._placed or (self._to_place and self.chance.random() < 0.25):
            request = self._to_place.pop(0)
            self._placed.append(str(request.order_id))
            self.world.place(request, self._mishap(0.2))
            return
        weights = {
            self._deliver: 74,
            self._lose: 6,
            self._wait: 3,
            self._sweep: 4,
            self._wait_and_sweep: 7,
            self._cancel: 3,
            self.world.resume_stuck: 3,
        }
        do: Callable[[], object] = self.chance.choices(list(weights), list(weights.values()))[0]
        do()

    def _deliver(self) -> None:
        message = self._some_message()
        if message is None:
            self._sweep()
            return
        if company := self._some_of(self.world.company(message)):
            together = sorted([message, *company], key=self.world.post.index)
            self.world.deliver_together(together, self._mishap(0.3), again=self._unacknowledged(together))
        else:
            self.world.deliver(message, self._mishap(0.3), again=self.chance.random() < 0.15)

    def _lose(self) -> None:
        if message := self._some_message():
            self.world.lose(message)

    def _wait(self) -> None:
        self.world.wait(self.chance.choice((1, 5, 16, 31, 62)))

    def _sweep(self) -> None:
        self.world.sweep(self._mishap(0.2))

    def _wait_and_sweep(self) -> None:
        self._wait()
        self._sweep()

    def _cancel(self) -> None:
        self.world.cancel(self.chance.choice(self._placed), self._mishap(0.2))

    def _some_message(self) -> Message | None:
        post = self.world.post
        if not post:
            return None
        # one in five is slow: it comes when nothing else is left, or when all is over
        ready = [message for message in post if message.number % 5 != self._slow] or post
        return ready[0] if self.chance.random() < 0.5 else self.chance.choice(ready)

    def _some_of(self, company: list[Message]) -> list[Message]:
        """Return whom a message is done together with; now and then a worker that came first has taken the others."""
        return [message for message in company if self.chance.random() < 0.8]

    def _unacknowledged(self, messages: list[Message]) -> list[Message]:
        """Return the last of these, from one of them on: acknowledgements leave in order."""
        return messages[self.chance.randrange(len(messages)) :] if self.chance.random() < 0.15 else []

    def _mishap(self, probability: float) -> Mishap | None:
        if self.chance.random() > probability:
            return None
        kinds = [Kind.KILL, Kind.REFUSE, Kind.PAUSE] if self._held_up < DEPTH else [Kind.KILL, Kind.REFUSE]
        return Mishap(self.chance.choice(kinds), self.chance.randrange(BOUNDARIES), self._others_go_on)

    def _others_go_on(self) -> None:
        self._held_up += 1
        for _ in range(self.chance.randint(1, 6)):
            self._next()
        self._held_up -= 1


def run(world: World, seed: int) -> Find | None:
    """Play a seed's schedule, have everything settle, and judge; returns what was found wrong."""
    world.reset(seed)
    try:
        schedule = Schedule(world, seed)
        schedule.play()
        with schedule.some_messages_delayed():
            settle(world)
        settle(world)
        judge(world)
    except Exception as error:
        return Find(seed, f"{type(error).__name__}: {error}", tuple(world.journal))
    return None
