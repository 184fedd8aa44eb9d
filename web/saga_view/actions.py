"""Determine which operator actions a saga allows, and why the others are unavailable."""

from dataclasses import dataclass

from flask import url_for

from app.saga.definition import COMPENSATION_STARTED, FORWARD, TERMINAL, SagaStatus
from app.saga.models import SagaInstance
from web.i18n import say as _
from workflows.operations.preview import past_pivot
from workflows.read_side.queries import SagaView


@dataclass(frozen=True)
class Request:
    """An operator action: its description, its preview page, and why it is unavailable (None if it is available)."""

    name: str
    says: str
    review: str
    refusal: str | None


def requests(view: SagaView) -> list[Request]:
    """Return all operator actions on a saga, including unavailable ones."""
    saga = view.saga

    def page(act: str) -> str:
        return url_for(f"pages.operate.{act}", saga_id=saga.id)

    return [
        Request(_("Cancel"), _("undo what was done so far"), page("cancel"), _cancel_refusal(view)),
        Request(_("Resume"), _("try again where it stands"), page("resume"), _resume_refusal(saga)),
        Request(_("Skip"), _("say that you did by hand what it is stuck on"), page("skip"), _skip_refusal(saga)),
    ]


def _cancel_refusal(view: SagaView) -> str | None:
    saga = view.saga
    if saga.status in TERMINAL:
        return _("it has ended")
    if saga.state == COMPENSATION_STARTED:
        return _("it is being undone already")
    if past_pivot(view):
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
