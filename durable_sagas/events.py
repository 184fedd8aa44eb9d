"""Event store and fan-out to subscribers: ``on(EventType, queue=…)`` and ``emit``.

An event is written in the transaction whose result it states. After the commit one task per subscriber is sent to the
subscriber's queue. A topic exchange would give all copies one task id, send every retry to every service, and drop
events silently where a queue is missing. A message that is sent again has another task id, because workers discard a
task that an operator revoked, and remember its id for hours: only the log shows what has been done.

There are two kinds of subscriptions. A choreography handles its own: it republishes its events until its saga has
ended. All others (``Events.on``) use the *transactional outbox*: a row beside the event, which the subscriber deletes
in the transaction that does its work, so each is handled exactly once whatever is lost.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid5

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.orm import Session

from durable_sagas.database import after_commit, as_loaded, table_of
from durable_sagas.engine import Engine
from durable_sagas.ids import is_uuid, new_id
from durable_sagas.messages import Event, EventType, Reply
from durable_sagas.messaging.publisher import OnUndelivered, current_task_id
from durable_sagas.models import OutboxEntry, StoredEvent

logger = logging.getLogger(__name__)

NO_SUCH_EVENT = "no such event"


@dataclass(frozen=True)
class Subscription:
    """A task that subscribes to an event, within one choreography (``scope``) or globally (``None``)."""

    task_name: str
    scope: str | None


Subscriber = Callable[[Session, StoredEvent], None]


@dataclass(frozen=True)
class NewEvent:
    """An event to write, with its aggregate and its saga.

    ``task_id`` is the task that publishes it, if that is not the running one: see ``as_task``.
    """

    aggregate_id: str
    saga_id: str
    event: Event
    task_id: str | None = None


class Events:
    """Writes the events of one binding, and sends them to its subscribers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._subscriptions: dict[EventType, list[Subscription]] = {}

    def subscribe(self, event_types: Iterable[EventType], task_name: str, scope: str | None = None) -> None:
        """Subscribe a task to these event types in the scope; it is called with ``saga_id`` and ``event_id``."""
        for event_type in event_types:
            self._subscriptions.setdefault(event_type, []).append(Subscription(task_name, scope))

    def subscribers(self, event_type: EventType, scope: str | None) -> list[str]:
        """Return the tasks subscribed to an event type in exactly this scope, in order of declaration."""
        return [entry.task_name for entry in self._subscriptions.get(event_type, []) if entry.scope == scope]

    def on(self, *event_types: EventType, queue: str) -> Callable[[Subscriber], Subscriber]:
        """Register a subscriber to these event types, handled exactly once per event, as ``<queue>.<function>``.

        It is called as ``subscriber(session, event)`` in the transaction that deletes its outbox entry. Any exception
        is retried, every few seconds at first.
        """

        def declare(subscriber: Subscriber) -> Subscriber:
            task_name = f"{queue}.{subscriber.__name__}"

            @self.engine.task(
                task_name, autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=60, max_retries=8
            )
            def handle(*, saga_id: str, event_id: str) -> Reply:
                with self.engine.database.transaction() as session:
                    result = _handle_once(session, subscriber, task_name, event_id)
                is_known = result != NO_SUCH_EVENT
                return Reply(is_known, saga_id, task_name, result if is_known else None, None if is_known else result)

            self.subscribe(event_types, task_name)
            return subscriber

        return declare

    def emit(self, session: Session, aggregate_id: str, event: Event, *, saga_id: str) -> StoredEvent:
        """Append an event to its aggregate in the caller's transaction; subscribers are notified after the commit.

        Writers of one aggregate hold its saga's row lock; without it the unique sequence makes the second of two fail.
        """
        return self.emit_all(session, [NewEvent(aggregate_id, saga_id, event)], self.engine.database.now())[0]

    def emit_all(self, session: Session, new: Sequence[NewEvent], now: datetime) -> list[StoredEvent]:
        """Append events of several aggregates like ``emit``, in the given order; the results have no sequence."""
        stored, rows = [], []
        for one in new:
            row = {
                "id": new_id(),
                "event_type": one.event.type,
                "aggregate_id": one.aggregate_id,
                "payload": dict(one.event.payload),
                "timestamp": now,
            }
            stored.append(as_loaded(StoredEvent, row))
            rows.append(row | {"of": one.aggregate_id})
        # without the session: an event references no unflushed row
        session.connection().execute(_NUMBERED, rows)
        self._enqueue(session, zip(stored, new, strict=True), now)
        return stored

    def _enqueue(self, session: Session, written: Iterable[tuple[StoredEvent, NewEvent]], now: datetime) -> None:
        """Write the outbox entries of events, and notify their subscribers after the commit."""
        wake_at = now + timedelta(seconds=self.engine.options.stall_seconds)
        entries = []
        for stored, new in written:
            if task_names := self.subscribers(stored.event_type, None):
                entry = {"event_id": stored.id, "saga_id": new.saga_id, "wake_at": wake_at, "resent": 0}
                entries += [{**entry, "subscriber": name} for name in task_names]
                parent_id = new.task_id or current_task_id()
                after_commit(session, partial(self.deliver, task_names, stored.id, new.saga_id, parent_id))
        if entries:
            session.connection().execute(_INSERT_OUTBOX, entries)

    def deliver(
        self,
        task_names: Iterable[str],
        event_id: str,
        saga_id: str,
        parent_id: str | None = None,
        on_undelivered: OnUndelivered | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Send an event's task to each of these subscribers; ``on_undelivered`` is called for each not accepted.

        ``parent_id`` is the task that wrote the event. A message that may have been sent before is sent ``again``:
        under a new task id, which cannot have been revoked.
        """
        for task_name in task_names:
            self.engine.publisher.send(
                task_name,
                saga_id=saga_id,
                task_id=None if again else delivery_of(event_id, task_name),
                parent_id=parent_id,
                on_undelivered=on_undelivered,
                event_id=event_id,
            )

    def resend_outbox(self, session: Session, now: datetime, *, limit: int) -> int:
        """Send overdue outbox entries again after the commit; return their number."""
        query = select(OutboxEntry).where(OutboxEntry.wake_at <= now).order_by(OutboxEntry.wake_at).limit(limit)
        due = session.scalars(query.with_for_update(skip_locked=True)).all()
        for entry in due:
            entry.resent += 1  # the interval doubles: a subscriber that is down has its messages in the queue already
            wait = self.engine.options.stall_seconds * 2 ** min(entry.resent, 8)
            entry.wake_at = now + timedelta(seconds=wait)
            redeliver = partial(self.deliver, [entry.subscriber], entry.event_id, entry.saga_id, again=True)
            after_commit(session, self.engine.tracer.resend_span(session, entry.saga_id, redeliver))
        return len(due)


def _handle_once(session: Session, subscriber: Subscriber, task_name: str, event_id: str) -> str:
    """Call a subscriber unless it has handled the event before; return what happened."""
    event = session.get(StoredEvent, event_id) if is_uuid(event_id) else None
    if event is None:
        logger.warning("message for no known event, dropped")
        return NO_SUCH_EVENT
    own = (OutboxEntry.event_id == event_id, OutboxEntry.subscriber == task_name)
    if session.execute(delete(OutboxEntry).where(*own).returning(OutboxEntry.event_id)).first() is None:
        return "handled before"
    subscriber(session, event)
    return "handled"


_LAST = select(func.coalesce(func.max(StoredEvent.sequence), 0)).where(StoredEvent.aggregate_id == bindparam("of"))
_NUMBERED = insert(table_of(StoredEvent)).values(sequence=_LAST.scalar_subquery() + 1)
_INSERT_OUTBOX = insert(table_of(OutboxEntry))


def delivery_of(event_id: str, task_name: str) -> str:
    """Return the id of an event's delivery to a subscriber, the same for every copy of its message.

    It is also the task id of the first copy, so that pages can name that task without storing it.
    """
    return str(uuid5(UUID(event_id), task_name))
