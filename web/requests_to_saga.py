"""What may be asked of a saga now, and why the rest may not."""

from dataclasses import dataclass

from flask import current_app, url_for

from app.saga import orchestrator, registry
from app.saga.choreography import Choreography
from app.saga.definition import COMPENSATION_STARTED, FORWARD, SagaStatus, UnknownStep
from app.saga.models import SagaInstance
from web.language import say as _
from workflows.queries import SagaView


@dataclass(frozen=True)
class Request:
    """One thing that may be asked: what it does, or why it is refused; ``review`` is the page that explains it."""

    kind: str
    name: str
    says: str
    refusal: str | None
    address: str
    review: str | None


def requests(view: SagaView) -> list[Request]:
    """Return what could be asked of a saga."""
    saga = view.saga
    offered = [
        _request(saga, "cancel", _("Cancel"), _("undo what was done so far"), _cancel_refusal(view)),
        _request(saga, "resume", _("Resume"), _("try again where it stands"), _resume_refusal(saga)),
        _request(saga, "skip", _("Skip"), _("say that you did by hand what it is stuck on"), _skip_refusal(saga)),
    ]
    return [offer for offer in offered if offer.address or offer.review or offer.refusal]


def _request(saga: SagaInstance, kind: str, name: str, says: str, refusal: str | None) -> Request:
    return Request(
        kind, name, says, refusal, _address(f"pages.saga.{kind}", saga), _address(f"pages.operate.{kind}", saga) or None
    )


def _address(endpoint: str, saga: SagaInstance) -> str:
    return url_for(endpoint, saga_id=saga.id) if endpoint in current_app.view_functions else ""


def _cancel_refusal(view: SagaView) -> str | None:
    saga = view.saga
    if saga.status in {SagaStatus.COMPLETED, SagaStatus.COMPENSATED}:
        return _("it has ended")
    if saga.state == COMPENSATION_STARTED:
        return _("it is being undone already")
    if _past_return(view):
        return _("too late: it is past the point of no return, the carrier is booked")
    return None


def _resume_refusal(saga: SagaInstance) -> str | None:
    if saga.status == SagaStatus.STUCK:
        return None
    return _("it goes on by itself") if saga.status in FORWARD | {SagaStatus.COMPENSATING} else _("it has ended")


def _skip_refusal(saga: SagaInstance) -> str | None:
    if saga.status != SagaStatus.STUCK:
        return _("it is not stuck")
    if saga.state != COMPENSATION_STARTED:
        return _("only an undoing can be done by hand, and this is past the point of no return")
    return None


def _past_return(view: SagaView) -> bool:
    driver = registry.named(view.saga.saga_type)
    if isinstance(driver, Choreography):
        return any(event.event_type == driver.too_late for event in view.events)
    declared = orchestrator.definition(view.saga.saga_type)
    try:
        return declared is not None and declared.plan(view.saga.steps).past_pivot(view.saga.current_step)
    except UnknownStep:
        return False
