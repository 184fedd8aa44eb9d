"""Bound what is accepted and unfinished by what is being served, so that no saga waits longer than is acceptable.

By Little's law, sagas that are served at a rate wait for as many seconds as there are unfinished ones per rate. So the
limit is the rate times the acceptable wait. The rate is what the workers report (``queue_progress``), and each process
samples it when it is asked to admit a saga; so there is nothing to configure for a machine, and nothing to coordinate.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import NoReturn

from sqlalchemy import func, select

from durable_sagas.database import Database
from durable_sagas.definition import ACTIVE
from durable_sagas.errors import Overloaded
from durable_sagas.models import QueueProgress, SagaInstance
from durable_sagas.options import Options
from durable_sagas.signals import SagaSignal, SignalType

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0
"""The minimum interval at which a process samples the database."""

WINDOW_SECONDS = 10.0
"""The time over which the rate is measured, unless samples are rarer than that."""

MIN_SPAN_SECONDS = 5.0
"""The shortest time that shows a rate: workers report once a second, so less would show as many as a report brings."""

MAX_GAP_SECONDS = 60.0
"""After a longer time without a sample the measurement begins anew: whether the workers were busy is unknown."""

ASSUMED_PER_SECOND = 50.0
"""The rate that is assumed of workers that have not been busy yet."""

MIN_LIMIT = 100
"""The smallest limit, and the number of unfinished sagas from which the workers count as busy."""

MAX_RETRY_SECONDS = 60
SPREAD_SECONDS = 5
"""Rejected clients are spread over so many seconds, so that they do not all retry at once."""


@dataclass(frozen=True)
class Sample:
    """The sagas at one moment: how many are unfinished, and how many each process has settled since it started."""

    at: datetime
    unfinished: int
    settled: Mapping[str, int]


@dataclass(frozen=True)
class AdmissionStatus:
    """How many sagas are unfinished, and from which number on none is admitted."""

    unfinished: int
    limit: int

    @property
    def is_full(self) -> bool:
        """Return whether no saga is admitted."""
        return self.unfinished >= self.limit


def settled_per_second(samples: Sequence[Sample]) -> float | None:
    """Return how many sagas were settled per second; None if the samples do not span enough time.

    A process counts from the second sample on that has it: what it settled before was not settled in this time.
    """
    seconds = (samples[-1].at - samples[0].at).total_seconds() if samples else 0.0
    if seconds < MIN_SPAN_SECONDS:
        return None
    settled = sum(
        max(0, count - before.settled.get(process, count))
        for before, after in pairwise(samples)
        for process, count in after.settled.items()
    )
    return settled / seconds


def next_limit(limit: float, samples: Sequence[Sample], acceptable_wait_seconds: float) -> float:
    """Return the limit after the last of the samples.

    It rises at once to what the measured rate serves in the acceptable wait. It falls only while the workers are busy,
    since otherwise the rate is the customers' and not the workers', and by half in an acceptable wait, since a short
    interruption says little. That nothing is settled at all says nothing of their speed: they are down, or the sagas
    wait for something else. While they are not busy at all it rises again to what is assumed, likewise.
    """
    rate = settled_per_second(samples)
    if rate is None:
        return limit
    factor = 2 ** ((samples[-1].at - samples[-2].at).total_seconds() / acceptable_wait_seconds)
    busy = [sample.unfinished >= MIN_LIMIT for sample in samples]
    if all(busy) and rate:
        limit /= factor
    elif not any(busy):
        limit = max(limit, min(limit * factor, ASSUMED_PER_SECOND * acceptable_wait_seconds))
    return max(rate * acceptable_wait_seconds, limit, MIN_LIMIT)


class Admission:
    """Admits sagas as long as fewer are unfinished than are served in ``Options.acceptable_wait_seconds``.

    All processes count the same sagas in the database. Between two samples each one adds only what it has started
    itself, so together they may exceed the limit by what they start in a second.
    """

    def __init__(
        self, database: Callable[[], Database], options: Callable[[], Options], is_eager: Callable[[], bool]
    ) -> None:
        self._database = database
        self._options = options
        self._is_eager = is_eager
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque()
        self._sampled_at: datetime | None = None
        self._limit: float | None = None
        self._started = 0
        self._listeners: list[Callable[[], object]] = []

    def reset(self) -> None:
        """Forget what was sampled: the database may be another one."""
        with self._lock:
            self._samples.clear()
            self._sampled_at, self._limit, self._started = None, None, 0

    def check(self) -> None:
        """Raise Overloaded if no saga is to be started now."""
        if overload := self.overload():
            self.refuse(overload)

    def overload(self) -> Overloaded | None:
        """Return the error that rejects another saga; None if it is admitted.

        For callers that still answer what was admitted before, such as a repeated request; others use ``check``.
        Nothing is rejected if the database does not answer, or if tasks run in the caller: then no saga waits.
        """
        if self._is_eager():
            return None
        status = self.status()
        if status is None or not status.is_full:
            return None
        return Overloaded(self._retry_after(status))

    def refuse(self, overload: Overloaded) -> NoReturn:
        """Raise the error, and notify the listeners."""
        for listener in self._listeners:
            listener()
        raise overload

    def on_refusal(self, listener: Callable[[], object]) -> None:
        """Register a function that is called whenever a saga is rejected in this process."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def note_started(self, signal: SagaSignal) -> None:
        """Count a saga that this process has started. A listener of signals."""
        if signal.kind is SignalType.SAGA_STARTED:
            with self._lock:
                self._started += 1

    def status(self) -> AdmissionStatus | None:
        """Return the present status, from a sample of the last second; None if the database does not answer."""
        if self._is_due():
            self._sample()
        with self._lock:
            if not self._samples:
                return None
            return AdmissionStatus(self._samples[-1].unfinished + self._started, self._current_limit())

    def _is_due(self) -> bool:
        """Return whether this thread is to sample; until it has, the others use the last sample."""
        now = self._database().now()
        with self._lock:
            # the clock may have been set back
            if self._sampled_at and abs((now - self._sampled_at).total_seconds()) < SAMPLE_SECONDS:
                return False
            self._sampled_at = now
            return True

    def _sample(self) -> None:
        with self._lock:
            started = self._started
        try:
            sample = self._read()
        except Exception as fault:
            # no order is rejected because the sample failed, for whatever reason
            logger.warning("the number of unfinished sagas could not be read", extra={"reason": fault})
            with self._lock:
                self._samples.clear()
            return
        with self._lock:
            self._started = max(0, self._started - started)
            if self._samples:
                gap = (sample.at - self._samples[-1].at).total_seconds()
                if not 0 < gap <= MAX_GAP_SECONDS:
                    self._samples.clear()
            self._samples.append(sample)
            while len(self._samples) > 2 and (sample.at - self._samples[0].at).total_seconds() > WINDOW_SECONDS:
                self._samples.popleft()
            self._limit = next_limit(self._known_limit(), self._samples, self._options().acceptable_wait_seconds)

    def _read(self) -> Sample:
        database = self._database()
        process, settled = QueueProgress.process_id, func.max(QueueProgress.settled)
        with database.reading() as session:
            unfinished = session.scalar(
                select(func.count()).select_from(SagaInstance).where(SagaInstance.status.in_(ACTIVE))
            )
            counts = session.execute(select(process, settled).group_by(process)).all()
        return Sample(database.now(), unfinished or 0, {row[0]: row[1] for row in counts})

    def _known_limit(self) -> float:
        if self._limit is None:
            return max(MIN_LIMIT, ASSUMED_PER_SECOND * self._options().acceptable_wait_seconds)
        return self._limit

    def _current_limit(self) -> int:
        limit, cap = int(self._known_limit()), self._options().max_unfinished
        return limit if cap is None else min(limit, cap)

    def _retry_after(self, status: AdmissionStatus) -> int:
        """Return in how many seconds the excess has been served, with some spread."""
        per_second = self._known_limit() / self._options().acceptable_wait_seconds
        excess = (status.unfinished - status.limit) / per_second
        spread = random.uniform(0, SPREAD_SECONDS)  # noqa: S311  (no secret)
        return 1 + int(min(excess + spread, MAX_RETRY_SECONDS - 1))
