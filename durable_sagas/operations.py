"""Operations on a saga for operators and customers, the same for both patterns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.definition import (
    COMPENSATION_STARTED,
    FORWARD,
    TERMINAL,
    Operation,
    OperatorActionType,
    SagaStatus,
    StepStatus,
)
from durable_sagas.engine import Engine
from durable_sagas.errors import Conflict, NotFound
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import OperatorAction, SagaInstance, SagaStep
from durable_sagas.registry import Driver, driver_of
from durable_sagas.saga_log import SagaRecord
from durable_sagas.stuck_groups import StuckGroup, error_class

BATCH = 100


@dataclass(frozen=True)
class Resumed:
    """The result of a bulk resume: the sagas resumed, those refused with the reason, and where to continue."""

    resumed: list[str]
    refused: dict[str, str]
    next_after: str | None
    """The id of the last saga processed, or None if there are no more."""


class Operations:
    """The operations of one binding."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def cancel(self, saga_id: str, *, by: str | None = None) -> SagaInstance:
        """Request a saga's cancellation; return the saga as of the commit, with ``cancel_requested_at`` set.

        ``by`` is the requesting operator, recorded unless the saga is already being compensated; None for a customer. A
        second request has no effect. Raises NotFound, and Conflict if the saga is completed or past the point of no
        return.
        """

        def ask(driver: Driver, session: Session, record: SagaRecord) -> bool:
            saga = record.saga
            if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
                raise Conflict("it is being compensated already, and stuck: resume it", status=saga.status)
            if saga.status == SagaStatus.COMPLETED:
                raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
            is_compensated = saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}
            done = not is_compensated and driver.cancel(session, record)
            # also if the saga is being compensated already: the request is accepted, so its decision can be looked up
            if saga.cancel_requested_at is None:
                saga.cancel_requested_at = self.engine.database.now()
            return done

        return self._with_driver(saga_id, ask, OperatorActionType.CANCEL, by)

    def resume(self, saga_id: str, *, by: str | None = None) -> SagaInstance:
        """Resume a stuck saga at its current step, or re-drive an unfinished one; ``by`` is recorded.

        Raises NotFound, and Conflict if the saga has ended.
        """
        return self._with_driver(saga_id, self._resume, OperatorActionType.RESUME, by)

    def skip(self, saga_id: str, report: ManualCompletion) -> SagaInstance:
        """Continue a saga whose stuck compensation is reported as completed manually.

        Raises NotFound. Raises Conflict if the saga is not stuck; if it is stuck on something other than a
        compensation, on another step than the report names, or on several steps and the report names none; and if its
        service cannot record the completion.
        """

        def ask(driver: Driver, session: Session, record: SagaRecord) -> bool:
            status = record.saga.status
            if status != SagaStatus.STUCK:
                raise Conflict(f"there is nothing to skip: the saga is {status}", status=status)
            driver.skip(session, record, report)
            return True

        return self._with_driver(saga_id, ask, OperatorActionType.SKIP, report.by, report.note)

    def resume_stuck(
        self, step: str, *, by: str | None = None, after: str | None = None, limit: int = BATCH
    ) -> Resumed:
        """Resume the sagas that are stuck on one step, at most ``limit``, each in a transaction of its own.

        ``after`` is the ``next_after`` of an earlier call. A saga that cannot be resumed delays no other.
        """
        found, next_after = self._find(_is_stuck_on(step), after, limit)
        # another operator may have resumed one since it was found
        done = self._resume_each(found, lambda saga: saga.status == SagaStatus.STUCK, by)
        return Resumed(*done, next_after)

    def resume_group(
        self, group: StuckGroup, *, by: str | None = None, after: str | None = None, limit: int = BATCH
    ) -> Resumed:
        """Resume the sagas of one group, of at most ``limit`` sagas stuck on its step: see ``resume_stuck``."""
        found, next_after = self._find(SagaInstance.current_step == group.step, after, limit)
        in_group = [saga_id for saga_id, reason in found.items() if error_class(reason, group.step) == group.error]
        # checked again with the row locked: the saga may have changed since it was shown
        return Resumed(*self._resume_each(in_group, group.holds, by), next_after)

    def _find(
        self, condition: ColumnElement[bool], after: str | None, limit: int
    ) -> tuple[dict[str, str | None], str | None]:
        """Return the ids and reasons of stuck sagas, and the last one's id if there are more of them."""
        columns = select(SagaInstance.id, SagaInstance.stuck_reason)
        stuck = columns.where(SagaInstance.status == SagaStatus.STUCK, condition)
        if after:
            stuck = stuck.where(SagaInstance.id > after)
        with self.engine.database.reading() as session:
            found = session.execute(stuck.order_by(SagaInstance.id).limit(limit + 1)).all()
        return {row.id: row.stuck_reason for row in found[:limit]}, found[limit - 1].id if len(found) > limit else None

    def _resume_each(
        self, saga_ids: Iterable[str], is_meant: Callable[[SagaInstance], bool], by: str | None
    ) -> tuple[list[str], dict[str, str]]:
        """Resume the sagas for which ``is_meant`` holds; return those, and the refused ones with the reason."""
        resumed, refused = [], dict[str, str]()

        def ask(driver: Driver, session: Session, record: SagaRecord) -> bool:
            if not is_meant(record.saga):
                return False
            self._resume(driver, session, record)
            resumed.append(record.saga.id)
            return True

        for saga_id in saga_ids:
            try:
                self._with_driver(saga_id, ask, OperatorActionType.RESUME_STUCK, by)
            except Conflict as conflict:
                refused[saga_id] = conflict.detail
        return resumed, refused

    def count_stuck(self, step: str) -> int:
        """Return how many sagas are stuck on a step."""
        with self.engine.database.reading() as session:
            stuck = select(func.count(SagaInstance.id)).where(SagaInstance.status == SagaStatus.STUCK)
            return session.scalar(stuck.where(_is_stuck_on(step))) or 0

    def saga_of(self, aggregate_id: str) -> str:
        """Return the id of the saga of an aggregate (an order). Raises NotFound."""
        with self.engine.database.reading() as session:
            saga_id = session.scalar(select(SagaInstance.id).where(SagaInstance.aggregate_id == aggregate_id))
        if saga_id is None:
            raise NotFound(f"there is no saga of order {aggregate_id}")
        return saga_id

    def _resume(self, driver: Driver, session: Session, record: SagaRecord) -> bool:
        saga = record.saga
        if saga.status in TERMINAL:
            raise Conflict(f"there is nothing to resume: the saga is {saga.status}", status=saga.status)
        driver.resume(session, record)
        if saga.cancel_requested_at is not None and saga.status in FORWARD:
            # a process that could not decide the request has recorded it; the next sweep of one that can decides it
            saga.wake_at = self.engine.database.now()
        return True

    def _with_driver(
        self,
        saga_id: str,
        ask: Callable[[Driver, Session, SagaRecord], bool],
        act: OperatorActionType,
        by: str | None,
        note: str | None = None,
    ) -> SagaInstance:
        """Call ``ask`` with a saga's driver, its row locked, and record the operator's action in the same transaction.

        ``ask`` returns whether it changed anything: an action without effect is not recorded.
        """
        with self.engine.database.transaction() as session:
            record = saga_log.lock(session, saga_id)
            saga = record.saga
            driver = driver_of(self.engine, saga)
            with self.engine.tracer.continue_saga_span(session, saga, f"saga asked to {act.replace('_', ' ')}"):
                done = ask(driver, session, record)
            saga_log.write(session, [record])
            if done and by is not None:
                session.add(
                    OperatorAction(
                        id=new_id(), saga_id=saga.id, at=self.engine.database.now(), act=act, by=by, note=note
                    )
                )
        return saga


def _is_stuck_on(step: str) -> ColumnElement[bool]:
    # the row has one step only, but a choreographed saga may be stuck on two
    failed = and_(SagaStep.operation == Operation.COMPENSATION, SagaStep.status == StepStatus.FAILED)
    unsaid = (SagaStep.step == step, SagaStep.event_id.is_(None), or_(failed, SagaStep.status == StepStatus.CLOSING))
    return or_(SagaInstance.current_step == step, exists().where(SagaStep.saga_id == SagaInstance.id, *unsaid))
