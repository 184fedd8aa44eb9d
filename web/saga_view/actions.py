"""Determine which operator actions a saga allows, and why the others are unavailable."""

from dataclasses import dataclass

from flask import url_for

from durable_sagas.definition import COMPENSATION_STARTED, FORWARD, TERMINAL, SagaStatus
from durable_sagas.models import SagaInstance
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
    skipping = _("record that you resolved manually what it is stuck on")
    cancel, resume, skip = (url_for(f"pages.operate.{name}", saga_id=saga.id) for name in ("cancel", "resume", "skip"))
    return [
        Action(_("Cancel"), _("compensate the completed steps"), cancel, _why_not_cancel(view)),
        Action(_("Resume"), _("retry where it stopped"), resume, _why_not_resume(saga)),
        Action(_("Skip"), skipping, skip, _why_not_skip(saga)),
    ]


def _why_not_cancel(view: SagaView) -> str | None:
    saga = view.saga
    if saga.status in TERMINAL:
        return _("it has ended")
    if saga.state == COMPENSATION_STARTED:
        return _("it is being compensated already")
    if past_pivot(view):
        return _("too late: it is past the point of no return, the carrier is booked")
    return None


def _why_not_resume(saga: SagaInstance) -> str | None:
    if saga.status == SagaStatus.STUCK:
        return None
    return _("it continues by itself") if saga.status in FORWARD | {SagaStatus.COMPENSATING} else _("it has ended")


def _why_not_skip(saga: SagaInstance) -> str | None:
    if saga.status != SagaStatus.STUCK:
        return _("it is not stuck")
    if saga.state != COMPENSATION_STARTED:
        return _("only a compensation can be resolved manually, and this is past the point of no return")
    return None
