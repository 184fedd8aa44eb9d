"""Keep the sweep from re-driving a saga while its gateway is being called, however long that takes.

Without it a call that takes longer than ``stall_seconds`` would be made again beside the first. A process that dies or
freezes stops renewing, so the sweep re-drives its sagas after that time, as always; and no later than the deadline.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from durable_sagas import saga_log
from durable_sagas.database import Database
from durable_sagas.errors import DatabaseUnavailable
from durable_sagas.options import Options

logger = logging.getLogger(__name__)


class GatewayCalls:
    """The gateway calls under way in this process. Short ones cost nothing: no statement, and hardly ever a thread."""

    def __init__(self, database: Callable[[], Database], options: Callable[[], Options]) -> None:
        self._database = database
        self._options = options
        self._lock = threading.Lock()
        self._calls: dict[object, str] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def under_way(self, saga_id: str) -> Iterator[None]:
        """Postpone the sweep's next check of a saga again and again while the block runs."""
        call = object()
        with self._lock:
            self._calls[call] = saga_id
            # a forked child inherits the object but not the thread
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="gateway calls", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._calls[call]

    def renew(self, saga_ids: set[str]) -> None:
        """Postpone the next check of these sagas by ``stall_seconds`` from now, but not beyond their deadline."""
        database = self._database()
        until = database.now() + timedelta(seconds=self._options().stall_seconds)
        try:
            with database.transaction() as session:
                saga_log.postpone_check(session, saga_ids, until)
        except DatabaseUnavailable as fault:
            logger.warning("a saga's next check could not be postponed", extra={"reason": fault})

    def _run(self) -> None:
        """Renew every third of ``stall_seconds``; end when no call of the last time is under way any more."""
        before: dict[object, str] = {}
        ended = threading.Event()
        while True:
            ended.wait(self._options().stall_seconds / 3)
            with self._lock:
                if not self._calls:
                    self._thread = None
                    return
                long = {saga_id for call, saga_id in self._calls.items() if call in before}
                before = dict(self._calls)
            if long:
                self.renew(long)
