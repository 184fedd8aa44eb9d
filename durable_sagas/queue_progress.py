"""Track how far each queue has been served, to distinguish a saga that waits its turn from one with a lost message.

Each worker process notes the ``ready_at`` of what it takes from a queue, in memory, and a thread writes that once a
second into a row of the process's own: no statement for each step, no row that processes share. Queues deliver in
order, so a saga that became ready clearly before what its queue has served was *overtaken*: its message is lost.

The same thread keeps the sweep from re-driving a saga while its gateway is being called, however long that takes:
otherwise a long call would be made again beside the first. A process that dies or freezes stops renewing.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.database import Database, insert_if_absent, table_of
from durable_sagas.decisions import QueueState
from durable_sagas.errors import DatabaseUnavailable
from durable_sagas.ids import new_id
from durable_sagas.models import QueueProgress
from durable_sagas.options import Options
from durable_sagas.signals import SagaSignal, SignalType

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
"""The interval at which a process reports what it has served since."""

LONG_CALL_SECONDS = 2.0
"""The maximum interval at which the calls under way are noted; one that is seen twice is long."""

SIDE_BY_SIDE_SECONDS = 5.0
"""A process that has served nothing for so long does not hold up the others' progress.

It is longer than ``LONG_CALL_SECONDS``: a process that calls a gateway reports its saga before.
"""

CLOCK_TOLERANCE = timedelta(seconds=1)
"""By how much the clocks that two processes derive from the database's may differ."""

KEPT_SECONDS = 3600.0
"""How long the rows of processes that have ended are kept."""


@dataclass(eq=False)
class Call:
    """A gateway call under way."""

    saga_id: str
    queue: str
    ready_at: datetime | None
    deadline: datetime | None
    """The latest time at which it is to have ended."""
    updated_at: datetime | None = None
    """When the saga made progress last: once it has gone on, the call is no longer noted on its row."""
    is_long: bool = False


class ServedQueues:
    """What this process serves: how far it has served each queue, and the gateway calls under way.

    A short call costs nothing: no statement, and hardly ever a thread.
    """

    def __init__(self, database: Callable[[], Database], options: Callable[[], Options]) -> None:
        self.reports = False
        """Whether served messages are reported: only a worker's are."""
        self._database = database
        self._options = options
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: set[Call] = set()
        self._served: dict[str, tuple[datetime | None, datetime]] = {}
        self._settled = 0
        self._process = (0, "")

    def reset(self) -> None:
        """Forget what was served, and report no more: the database may be another one."""
        with self._lock:
            self.reports = False
            self._thread = None  # the one that runs ends
            self._calls.clear()
            self._served.clear()

    def note(self, queue: str, ready_at: Iterable[datetime]) -> None:
        """Note that messages of sagas that were ready at these times, as far as known, have been served."""
        if not self.reports:
            return
        newest = max(ready_at, default=None)
        now = self._database().now()
        with self._lock:
            before, _ = self._served.get(queue, (None, now))
            self._served[queue] = (max(filter(None, (before, newest)), default=None), now)
            self._start_thread()

    def note_settled(self, signal: SagaSignal) -> None:
        """Count a saga that has ended. A listener of signals."""
        if signal.kind in {SignalType.SAGA_COMPLETED, SignalType.SAGA_COMPENSATED}:
            self._settled += 1

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Postpone the sweep's next check of a saga again and again while its gateway is called in the block."""
        try:
            with self._lock:
                self._calls.add(call)
                self._start_thread()
            yield
        finally:
            with self._lock:
                self._calls.discard(call)

    def report(self) -> None:
        """Write how far this process has served its queues since the last report."""
        with self._lock:
            served, self._served = self._served, {}
            # what is being called was taken, and is not served yet; a long call is no longer in the queue
            calls = [call for call in self._calls if call.ready_at and not call.is_long]
        # the oldest of each queue remains
        waiting = {call.queue: call.ready_at for call in sorted(calls, key=attrgetter("ready_at"), reverse=True)}
        rows = [
            {
                "queue": queue,
                "process_id": self._process_id(),
                "served_until": min(filter(None, (until, waiting.get(queue))), default=None),
                "moved_at": moved_at,
                "settled": self._settled,
            }
            for queue, (until, moved_at) in served.items()
        ]
        if not rows:
            return
        try:
            with self._database().transaction() as session:
                written = insert_if_absent(session, QueueProgress)
                latest = func.coalesce(written.excluded.served_until, table_of(QueueProgress).c.served_until)
                changed = {name: written.excluded[name] for name in ("moved_at", "settled")} | {"served_until": latest}
                for row in rows:
                    session.execute(
                        written.values(**row).on_conflict_do_update(
                            index_elements=["queue", "process_id"], set_=changed
                        )
                    )
        except DatabaseUnavailable as fault:
            logger.warning("the progress of queues could not be reported", extra={"reason": fault})
            with self._lock:
                self._served = {**served, **self._served}

    def renew(self, calls: Iterable[Call]) -> None:
        """Postpone the next check of the sagas of long calls by ``stall_seconds``, but not beyond their deadlines."""
        database = self._database()
        until = database.now() + timedelta(seconds=self._options().stall_seconds)
        try:
            with database.transaction() as session:
                for call in calls:
                    saga_log.note_call(session, call.saga_id, call.updated_at, call.deadline, until)
        except DatabaseUnavailable as fault:
            logger.warning("a saga's next check could not be postponed", extra={"reason": fault})

    def _process_id(self) -> str:
        if self._process[0] != os.getpid():  # a forked child has rows of its own
            self._process = (os.getpid(), new_id())
        return self._process[1]

    def _start_thread(self) -> None:
        # a forked child inherits the object but not the thread
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="queue progress", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the process is ending: no step must fail for that
                logger.warning("the progress of queues is not reported", extra={"reason": error})
            else:
                self._thread = thread

    def _run(self) -> None:
        """Report and renew; end when there is nothing to report any more."""
        pause = threading.Event()
        seen: set[Call] = set()
        while True:
            pause.wait(min(REPORT_SECONDS, LONG_CALL_SECONDS, self._options().stall_seconds / 3))
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                if not self._calls and not self._served:
                    self._thread = None
                    return
                long, seen = self._calls & seen, set(self._calls)
                for call in long:
                    call.is_long = True
            try:
                if long:
                    self.renew(long)
                self.report()
            except Exception:
                # sagas are handled without it, only later and with more messages
                logger.exception("the progress of queues could not be reported")


def read_reports(session: Session) -> dict[str, list[QueueProgress]]:
    """Return the reports of all processes by queue."""
    reports: dict[str, list[QueueProgress]] = {}
    for row in session.scalars(select(QueueProgress)):
        reports.setdefault(row.queue, []).append(row)
    return reports


def progress_of(
    rows: Sequence[QueueProgress], silent_since: Callable[[datetime, datetime], datetime], now: datetime
) -> QueueState | None:
    """Return a queue's progress by the reports of its processes: as far as the slowest of those at work.

    ``silent_since`` is ``Outages.silent_since``. Return None if there is no report; one from the future does not count,
    because it is from before the database's clock was set back.
    """
    rows = [row for row in rows if row.moved_at <= now + CLOCK_TOLERANCE]
    if not rows:
        return None
    moved_at = max(row.moved_at for row in rows)
    at_work = [row for row in rows if moved_at - row.moved_at < timedelta(seconds=SIDE_BY_SIDE_SECONDS)]
    served = [min(row.served_until, now) for row in at_work if row.served_until]
    return QueueState(min(served, default=None), silent_since(moved_at, now))


def prune(session: Session, reports: Mapping[str, Sequence[QueueProgress]], now: datetime) -> None:
    """Delete the reports of processes that have ended long ago, except for queues that have no other."""
    long_ago = now - timedelta(seconds=KEPT_SECONDS)
    for rows in reports.values():
        old = [row for row in rows if row.moved_at < long_ago]
        if len(old) < len(rows):
            for row in old:
                session.delete(row)
