"""Describe a saga's status in a sentence."""

from collections.abc import Sequence
from datetime import datetime

from durable_sagas.definition import ACTIVE, COMPENSATION_STARTED, Operation, SagaStatus
from web.i18n import translate as _
from web.text import duration, plain
from workflows.read_side.event_flow import Outcome, PublishedEvent
from workflows.read_side.queries import SagaView
from workflows.read_side.saga_history import HistoryEntry


def sentence(view: SagaView, events: Sequence[PublishedEvent], now: datetime) -> str:
    """Return a sentence on what a saga is doing now, or how it ended."""
    saga = view.saga
    duration_text = duration((saga.updated_at - saga.created_at).total_seconds())
    if saga.status == SagaStatus.COMPLETED:
        return _("Everything is done; it took %(time)s.", time=duration_text)
    if saga.status == SagaStatus.COMPENSATED:
        return _("It could not be completed, so it was compensated; it took %(time)s.", time=duration_text)
    if saga.status == SagaStatus.STUCK:
        return _stuck(view, now)
    waiting = [logged for logged in view.operations if logged.retry_at]
    if waiting:
        return _retrying(waiting[0], now)
    return _active(view, events)


def _stuck(view: SagaView, now: datetime) -> str:
    saga = view.saga
    since = duration((now - saga.updated_at).total_seconds())
    step = plain(saga.current_step or "?")
    if saga.state == COMPENSATION_STARTED:
        return _("Stuck for %(time)s while compensating %(step)s: it needs you.", time=since, step=step)
    return _("Stuck for %(time)s at %(step)s, past the point of no return: it needs you.", time=since, step=step)


def _retrying(logged: HistoryEntry, now: datetime) -> str:
    values = {"step": _name(logged), "n": logged.attempts + 1, "most": logged.max_attempts, "why": logged.error}
    if logged.retry_at and logged.retry_at > now:
        at = logged.retry_at.strftime("%H:%M:%S")
        return _("Waiting to retry %(step)s: attempt %(n)s of %(most)s at %(at)s, because: %(why)s", at=at, **values)
    return _("Retrying %(step)s, attempt %(n)s of %(most)s, because: %(why)s", **values)


def _active(view: SagaView, events: Sequence[PublishedEvent]) -> str:
    running = next((logged for logged in view.operations if logged.finished_at is None), None)
    if view.saga.status == SagaStatus.PENDING:
        return _("Accepted; %(step)s is first.", step=plain(view.saga.current_step or ""))
    if running and running.operation is Operation.COMPENSATION:
        return _("Compensating %(step)s.", step=plain(running.step))
    if running:
        return _("Executing %(step)s.", step=plain(running.step))
    pending = [delivery for event in events for delivery in event.deliveries if delivery.outcome is Outcome.PENDING]
    if pending:
        services = dict.fromkeys(f"{delivery.service} ({plain(delivery.command or '')})" for delivery in pending)
        return _("Waiting for %(services)s.", services=", ".join(services))
    if view.saga.status in ACTIVE and view.saga.state == COMPENSATION_STARTED:
        return _("Compensating the completed steps.")
    return _("Under way.")


def _name(logged: HistoryEntry) -> str:
    if logged.operation is Operation.COMPENSATION:
        return _("the compensation of %(step)s", step=plain(logged.step))
    return plain(logged.step)
