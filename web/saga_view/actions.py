"""Determine which operator actions a saga allows, and why the others are unavailable."""

from dataclasses import dataclass

from flask import url_for

from app.saga.definition import COMPENSATION_STARTED, FORWARD, TERMINAL, SagaStatus
from app.saga.models import SagaInstance
from web.i18n import translate as _
from workflows.operations.preview import past_pivot
from workflows.read_side.queries import SagaView


@dataclass(frozen=True)
class Action:
    """An operator action: its description, its preview page, and why it is unavailable (None if it is available)."""

    name: str
    description: str
    preview_url: str
    unavailable_because: str | None


def available_actions(view: SagaView) -> list[Action]:
    """Return all operator actions on a saga, including unavailable ones."""
    saga = view.saga

    def preview_of(name: str) -> str:
        return url_for(f"pages.operate.{name}", saga_id=saga.id)

    return [
        Action(_("Cancel"), _("undo what was done so far"), preview_of("cancel"), _why_not_cancel(view)),
        Action(_("Resume"), _("try again where it stands"), preview_of("resume"), _why_not_resume(saga)),
        Action(_("Skip"), _("say that you did by hand what it is stuck on"), preview_of("skip"), _why_not_skip(saga)),
    ]


def _why_not_cancel(view: SagaView) -> str | None:
    saga = view.saga
    if saga.status in TERMINAL:
        return _("it has ended")
    if saga.state == COMPENSATION_STARTED:
        return _("it is being undone already")
    if past_pivot(view):
        return _("too late: it is past the point of no return, the carrier is booked")
    return None


def _why_not_resume(saga: SagaInstance) -> str | None:
    if saga.status == SagaStatus.STUCK:
        return None
    return _("it goes on by itself") if saga.status in FORWARD | {SagaStatus.COMPENSATING} else _("it has ended")


def _why_not_skip(saga: SagaInstance) -> str | None:
    if saga.status != SagaStatus.STUCK:
        return _("it is not stuck")
    if saga.state != COMPENSATION_STARTED:
        return _("only an undoing can be done by hand, and this is past the point of no return")
    return None
