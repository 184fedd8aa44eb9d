"""A shop whose messages, clock and misfortunes a test holds in its hands.

The tasks, the engine, the statements and the tables are the real ones. The broker is a list, and the workers are this
one thread: a message is delivered by calling what the pool of a worker calls. Whatever chance decides elsewhere comes
from a seed here, so that a run can be had again.
"""

import logging
import random
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID

from kombu.transport.memory import Channel

from app import runtime
from app.celery import app as celery
from app.celery import configuration
from app.errors import Conflict, NotFound
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas import ids
from tasks.gateways.simulation import SimulatedGateway
from tests.simulation.messages import Message, batched, described, run
from tests.simulation.mishaps import Boundary, Killed, Mishap, Passage
from tests.simulation.store import Store
from tests.testkit.messages import Clock
from tests.testkit.queues import forget, reporting
from workflows import orders
from workflows.orders import NewOrder

MORNING = datetime(2026, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Moment:
    """Everything that a world is at one time."""

    image: bytes
    time: datetime
    post: tuple[Message, ...]
    journal: tuple[str, ...]
    count: int
    chance: Any


class World:
    """One CloudMart in one thread. ``open_world`` makes it; ``reset`` gives it a new morning."""

    def __init__(self, image: bytes, settings: Settings) -> None:
        self.here = Runtime(settings)
        self.clock = Clock()
        self.database = Store(self.reach, Boundary.BEFORE_TRANSACTION, Boundary.AFTER_COMMIT)
        self.outside = Store(self.reach, Boundary.BEFORE_CALL, Boundary.AFTER_CALL, twin=self.database)
        self.here.database = self.database
        self.here.now = self.clock
        with self.database.engine.connect() as connection:
            self.sqlite = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        self._passages: list[Passage] = []
        self._opening = Moment(image, MORNING, (), (), 0, random.getstate())
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin again: the shop as it opens, nothing sent, nothing written down."""
        self.go_back(self._opening)
        random.seed(seed)  # the jitter of the engine's retries

    def moment(self) -> Moment:
        """Return all there is, to come back to."""
        return Moment(
            self.sqlite.serialize(),
            self.clock.time,
            tuple(self.post),
            tuple(self.journal),
            self._count,
            random.getstate(),
        )

    def go_back(self, moment: Moment) -> None:
        """Have everything as it was at a moment."""
        self.sqlite.deserialize(moment.image)
        self.sqlite.execute("PRAGMA foreign_keys=ON")
        self.clock.time = moment.time
        self.post = list(moment.post)
        self.journal = list(moment.journal)
        self._count = moment.count
        random.setstate(moment.chance)
        self._passages.clear()
        forget()

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Look into the database, past the engine."""
        return self.sqlite.execute(statement, parameters).fetchall()

    def note(self, line: str) -> None:
        """Write down what is done, so that a run can be told."""
        self.journal.append(f"{(self.clock.time - MORNING).total_seconds():8.2f}  {line}")

    def describe(self, message: Message) -> str:
        """Say what a message is, and of which order."""
        event = self.rows("SELECT event_type FROM events WHERE id = ?", message.arguments.get("event_id"))
        order = self.rows("SELECT order_id FROM saga_instances WHERE id = ?", message.arguments["saga_id"])
        on = f" on {event[0][0]}" if event else ""
        return f"{message}{on} of {order[0][0]}"

    def reach(self, boundary: Boundary) -> None:
        """Pass a boundary in the innermost passage; outside of any nothing happens."""
        if self._passages:
            self._passages[-1].reach(boundary)

    @contextmanager
    def passage(self, doing: str, mishap: Mishap | None = None) -> Iterator[Passage]:
        """Have the block pass its boundaries under a mishap; a kill ends the block and is not passed on.

        It runs as in a process of its own, which does not know what those have done that are held up meanwhile.
        """
        passage = Passage(mishap, lambda what: self.note(f"{doing}: {what}"))
        self.note(doing)
        self._passages.append(passage)
        try:
            with (
                patch.object(sagas.engine.batches, "results", {}),
                patch.object(sagas.engine.batches, "_cooldown_until", {}),
            ):
                yield passage
        except Killed:
            passage.killed = True
            forget()
        finally:
            self._passages.pop()

    def deliver(self, message: Message, mishap: Mishap | None = None, *, again: bool = False) -> Passage:
        """Deliver a waiting message; it stays if its worker is killed, or if it is to come ``again``."""
        place = self.post.index(message)
        del self.post[place]
        if message.due and message.due > self.clock.time:
            self.clock.time = message.due
        self.clock.forward(0.01)
        with self.passage(f"deliver {self.describe(message)}{', to come again' if again else ''}", mishap) as passage:
            run(message)
        if again or passage.killed:
            self.post.insert(place, message)
        return passage

    def deliver_together(
        self, messages: Sequence[Message], mishap: Mishap | None = None, *, again: Collection[Message] = ()
    ) -> Passage:
        """Deliver messages of one task as a worker of one process does that has gathered them.

        Those stay that it has not acknowledged when it is killed, and those that are to come ``again``, as after a kill
        all do whose acknowledgement had not left the worker.
        """
        place = self.post.index(messages[0])
        self.post = [message for message in self.post if message not in messages]
        self.clock.forward(0.01)
        told = "; ".join(
            f"{self.describe(message)}{', to come again' if message in again else ''}" for message in messages
        )
        unacknowledged = list(messages)
        with self.passage(f"deliver together {told}", mishap) as passage, batched(messages):
            for message in messages:
                run(message)
                unacknowledged.remove(message)
        self.post[place:place] = [message for message in messages if message in again or message in unacknowledged]
        return passage

    def company(self, message: Message) -> list[Message]:
        """Return the other messages that a worker could do together with this one, if it does any together."""
        if not (message.first and sagas.engine.batches.is_batchable(message.task)):
            return []
        return [one for one in self.post if one.task == message.task and one.first and one is not message]

    def lose(self, message: Message) -> None:
        """Have the broker forget a message."""
        self.note(f"lose {self.describe(message)}")
        self.post.remove(message)

    @contextmanager
    def held_back(self, message: Message) -> Iterator[None]:
        """Keep a message under way while the block runs; it arrives afterwards."""
        self.note(f"{self.describe(message)} is held back")
        self.post.remove(message)
        yield
        self.note(f"{self.describe(message)} arrives")
        self.post.insert(0, message)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.forward(seconds)
        self.note(f"{seconds:g} seconds later")

    def sweep(self, mishap: Mishap | None = None) -> Passage:
        """Run the recovery sweep."""
        self.report()
        with self.passage("sweep", mishap) as passage:
            sagas.sweep()
        return passage

    def report(self) -> None:
        """Report what the workers have served, as their background thread does."""
        with patch.object(self, "_passages", []):
            sagas.report_progress()

    def place(self, request: NewOrder, mishap: Mishap | None = None) -> Passage:
        """Place an order; a customer who gets no answer asks again."""
        with self.passage(f"place {request.order_id}: {described(request)}", mishap) as passage:
            orders.place(request)
        if passage.killed:
            with self.passage(f"place {request.order_id} again"):
                orders.place(request)
        return passage

    def cancel(self, order_id: str, mishap: Mishap | None = None) -> Passage:
        """Have the customer ask for an order to be cancelled."""
        with self.passage(f"cancel {order_id}", mishap) as passage, suppress(Conflict, NotFound):
            orders.cancel(order_id)
        return passage

    def resume_stuck(self) -> int:
        """Have an operator resume every stuck saga; returns how many."""
        stuck = self.rows("SELECT id, order_id FROM saga_instances WHERE status = 'stuck' ORDER BY id")
        for saga_id, order_id in stuck:
            with self.passage(f"resume {order_id}"):
                sagas.resume(saga_id)
        return len(stuck)

    def put(self, queue: str, raw: dict[str, Any], **_: object) -> None:
        """Take a message as a broker does; it stands in for kombu's ``Channel._put``."""
        self.reach(Boundary.BEFORE_PUBLISHING)
        self._count += 1
        self.post.append(Message(self._count, queue, raw))
        self.reach(Boundary.AFTER_PUBLISHING)

    def new_uuid(self) -> UUID:
        """Return ids that a second run gets as well; it stands in for ``uuid7``."""
        self._count += 1
        return UUID(int=self._count << 80 | 7 << 76 | 2 << 62 | self._count)


@contextmanager
def open_world(image: bytes) -> Iterator[World]:
    """Make this process's runtime, broker and clock those of a world; everything is as before afterwards."""
    settings = Settings(database_url="sqlite://", broker_url="memory://", fault_injection=True, log_level="ERROR")
    before = runtime.current()
    world = World(image, settings)
    runtime.use(world.here)
    celery.set_default()
    celery.conf.update(configuration(settings))
    retries = celery.conf.task_publish_retry
    celery.conf.task_publish_retry = False  # it waits for real between two tries
    with ExitStack() as stack:
        stack.callback(setattr, celery.conf, "task_publish_retry", retries)
        stack.callback(runtime.use, before)
        # where kombu's memory transport would keep a message for its workers
        stack.enter_context(patch.object(Channel, "_put", world.put))
        stack.enter_context(patch.object(celery, "now", world.clock))
        stack.enter_context(patch.object(ids, "uuid7", world.new_uuid))
        stack.enter_context(patch.object(sagas.engine.batches, "_cooldown_until", {}))  # that goes by the real clock
        stack.enter_context(patch.object(SimulatedGateway, "database", world.outside))
        stack.enter_context(reporting())
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        stack.callback(world.here.close)
        yield world
