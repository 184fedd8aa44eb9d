"""The sagas' own log, read from the database: so the shop is asked nothing while it is measured."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from app.database import Database
from durable_sagas.definition import COMPLETED, Operation, SagaStatus
from durable_sagas.models import SagaInstance, SagaStep
from tests.testkit.processes import wait_for


@dataclass(frozen=True)
class Step:
    """An action's last attempt."""

    name: str
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Saga:
    """A saga as its row tells of it."""

    id: str
    status: SagaStatus
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class Sagas:
    """The sagas of a shop, as its database has them."""

    def __init__(self, database_url: str) -> None:
        self._database = Database(database_url)

    def unfinished(self) -> int:
        """Return how many have not ended and are not stuck; it costs nothing that grows with those that have."""
        with self._database.reading() as session:
            waiting = select(func.count()).select_from(SagaInstance).where(SagaInstance.wake_at.is_not(None))
            return session.scalars(waiting).one()

    def settle(self, patience: float) -> None:
        """Wait until all have ended. Raises TimeoutError."""
        wait_for("all orders to end", lambda: not self.unfinished(), patience)

    def of(self, ids: Sequence[str]) -> list[Saga]:
        """Return these sagas, in the order of their ids."""
        with self._database.reading() as session:
            rows = session.scalars(select(SagaInstance).where(SagaInstance.id.in_(ids)).order_by(SagaInstance.id))
            return [_saga(row) for row in rows]

    def steps(self, ids: Sequence[str]) -> dict[str, list[Step]]:
        """Return what was done for each of these sagas, in the order in which it began."""
        wanted = SagaStep.saga_id.in_(ids), SagaStep.operation == Operation.ACTION, SagaStep.finished_at.is_not(None)
        found: dict[str, list[Step]] = {saga_id: [] for saga_id in ids}
        with self._database.reading() as session:
            for row in session.scalars(select(SagaStep).where(*wanted).order_by(SagaStep.started_at)):
                assert row.finished_at is not None
                found[row.saga_id].append(Step(row.step, row.started_at, row.finished_at))
        return found

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@contextmanager
def sagas_of(database_url: str) -> Iterator[Sagas]:
    """Yield the sagas of a shop."""
    sagas = Sagas(database_url)
    try:
        yield sagas
    finally:
        sagas.close()


def per_second(sagas: Sequence[Saga]) -> float:
    """Return how many were settled per second, from the first one's acceptance to the last one's end."""
    seconds = max(saga.updated_at for saga in sagas) - min(saga.created_at for saga in sagas)
    return len(sagas) / seconds.total_seconds()


def _saga(row: SagaInstance) -> Saga:
    return Saga(row.id, SagaStatus(row.status), row.created_at, row.updated_at, _completed_at(row))


def _completed_at(row: SagaInstance) -> datetime | None:
    for entry in row.state_history:
        if entry["state"] == COMPLETED:
            return datetime.fromisoformat(entry["at"])
    return None
