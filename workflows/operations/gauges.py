"""Gauges for Prometheus, read from database and broker at scrape time because no process can count them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from kombu import Connection, Queue
from kombu.exceptions import ChannelError
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Row, Select, func, literal, select, union_all

from app import runtime
from app.celery import app as celery
from app.sagas import sagas
from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance
from workflows.read_side.saga_search import INDEX_COLUMNS, UNFINISHED, index_ranges

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

MAX_COUNTED = 10_000
"""The sagas of one type and status are counted up to this number."""
BROKER_TIMEOUT_SECONDS = 3
"""The broker's timeout, so that a reading always ends."""

NOT_FOUND = "404"

_LIMITS = {
    "amqp": {"read_timeout": BROKER_TIMEOUT_SECONDS, "write_timeout": BROKER_TIMEOUT_SECONDS},
    "redis": {"socket_timeout": BROKER_TIMEOUT_SECONDS},
}
"""The transport options for this timeout, by broker."""


class Probe(Generic[Value]):
    """Reads a source at most every ``max_age`` seconds; no caller waits longer than ``timeout`` seconds.

    Each reading has a background thread, one at a time: a source that never answers blocks only that thread.
    """

    def __init__(self, name: str, read: Callable[[], Value], *, max_age: float = 5, timeout: float = 2) -> None:
        self._name, self._read, self._max_age, self._timeout = name, read, max_age, timeout
        self._lock = threading.Lock()
        self._value: Value | None = None
        self._read_at: float | None = None
        self._running: threading.Event | None = None

    def get(self) -> Value | None:
        """Return the last value if it is fresh, else a new one; None if reading fails or takes too long."""
        with self._lock:
            if self._read_at is not None and time.monotonic() - self._read_at < self._max_age:
                return self._value
            if self._running is None:
                self._running = threading.Event()
                threading.Thread(target=self._refresh, args=(self._running,), name=self._name, daemon=True).start()
            running = self._running
        if not running.wait(self._timeout):
            logger.warning(f"no metrics of the {self._name}: it has not answered in {self._timeout} s")
            return None
        with self._lock:
            return self._value

    def _refresh(self, done: threading.Event) -> None:
        value = None
        try:
            value = self._read()
        except Exception as error:
            logger.warning(f"no metrics of the {self._name}: it does not answer", extra={"reason": error})
        finally:
            with self._lock:
                self._value, self._read_at, self._running = value, time.monotonic(), None
            done.set()


class Gauges(Collector):
    """Gauges of database and broker. Only the web exports them, because all processes would report the same values."""

    def __init__(self, max_age: float = 5) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._sagas = Probe(
            "database", lambda: (unfinished_sagas(), sagas.last_swept(), sagas.admission.status()), max_age=max_age
        )
        self._depths = Probe("broker", queue_depths, max_age=max_age)

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that registration does not query database and broker."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; of a database or broker that does not answer, only that it is down."""
        stored, depths = self._sagas.get(), self._depths.get()
        yield GaugeMetricFamily("database_up", "Whether the database answered.", value=stored is not None)
        yield GaugeMetricFamily("broker_up", "Whether the broker answered.", value=depths is not None)
        if stored is not None:
            unfinished, swept_at, admission = stored
            now = runtime.current().now()
            yield from _of_sagas(unfinished, now)
            age = max(0.0, (now - swept_at).total_seconds()) if swept_at else float("inf")
            yield GaugeMetricFamily(
                "sweep_age_seconds", "Time since the recovery sweep last ran; +Inf if it never has.", value=age
            )
            if admission:
                yield GaugeMetricFamily(
                    "saga_admission_limit",
                    "Unfinished sagas from which on no order is accepted.",
                    value=admission.limit,
                )
        if depths is not None:
            family = GaugeMetricFamily("queue_depth", "Messages that no worker has taken yet.", labels=("queue",))
            for queue, depth in depths.items():
                family.add_metric((queue,), depth)
            yield family


def _of_sagas(unfinished: Sequence[Row[Any]], now: datetime) -> Iterator[GaugeMetricFamily]:
    found = {(row.saga_type, row.status): row for row in unfinished}
    types = {driver.name for driver in sagas.saga_types.values()} | {row.saga_type for row in unfinished}
    stuck = GaugeMetricFamily("saga_stuck", "Sagas that wait for an operator.", labels=("type",))
    number = GaugeMetricFamily(
        "saga_unfinished",
        f"Sagas that have not ended, counted up to {MAX_COUNTED} of each type and status.",
        labels=("type", "status"),
    )
    oldest = GaugeMetricFamily(
        "saga_oldest_unfinished_seconds",
        "Age of the oldest saga that has not ended, since its start; 0 if there is none.",
        labels=("type", "status"),
    )
    for saga_type in sorted(types):
        for status in UNFINISHED:
            row = found.get((saga_type, status))
            number.add_metric((saga_type, status), row.number if row else 0)
            age = (now - row.oldest).total_seconds() if row and row.oldest else 0
            oldest.add_metric((saga_type, status), max(0, age))
            if status is SagaStatus.STUCK:
                stuck.add_metric((saga_type,), row.number if row else 0)
    yield from (stuck, number, oldest)


def unfinished_sagas() -> Sequence[Row[Any]]:
    """Return status, type, number (up to ``MAX_COUNTED``) and oldest start of the unfinished sagas. May raise.

    Its cost does not grow with the number of finished sagas.
    """
    with runtime.current().database.reading() as session:
        ranges = index_ranges(session, UNFINISHED)
        return session.execute(union_all(*(_summary(*pair) for pair in ranges))).all() if ranges else []


def _summary(status: SagaStatus, saga_type: str) -> Select[Any]:
    in_range = (SagaInstance.status == status, SagaInstance.saga_type == saga_type)
    counted = select(literal(1)).where(*in_range).order_by(*INDEX_COLUMNS).limit(MAX_COUNTED).subquery()
    # ids of version 7 grow with time: the first of a range is the oldest
    oldest = select(SagaInstance.created_at).where(*in_range).order_by(*INDEX_COLUMNS).limit(1).scalar_subquery()
    return select(
        literal(status.value).label("status"),
        literal(saga_type).label("saga_type"),
        select(func.count()).select_from(counted).scalar_subquery().label("number"),
        oldest.label("oldest"),
    )


def queue_depths() -> Mapping[str, int]:
    """Return the number of waiting messages of each queue. Errors of the broker's client propagate."""
    url = str(celery.conf.broker_url)
    limits = next((limits for scheme, limits in _LIMITS.items() if url.startswith(scheme)), {})
    with celery.connection_for_read(transport_options=limits) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_TIMEOUT_SECONDS)
        return {queue: _depth(connection, queue) for queue in sagas.services}


def _depth(connection: Connection, queue: str) -> int:
    # a channel each: RabbitMQ closes a channel that declares a missing queue passively
    with connection.channel() as channel:
        try:
            declared: Any = Queue(queue, channel=channel).queue_declare(passive=True)
        except ChannelError as error:
            if str(error.reply_code) == NOT_FOUND:
                return 0  # not declared yet; on Redis an empty queue does not exist
            raise
        return int(declared.message_count)
