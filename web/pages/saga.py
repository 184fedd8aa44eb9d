"""The page of one saga: what it did, what it undid, and what it waits for."""

from typing import Any

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from app.errors import Conflict
from app.saga import operations
from app.saga.definition import FORWARD, MOVING, SagaStatus
from workflows import queries

blueprint = Blueprint("saga", __name__, url_prefix="/sagas")

Page = str | tuple[str, int] | Response


@blueprint.get("/<saga_id>")
def show(saga_id: str) -> Page:
    """Show what a saga did and undid; the page renews itself until the saga has ended."""
    return _saga(saga_id)


@blueprint.post("/<saga_id>/cancel")
def cancel(saga_id: str) -> Page:
    """Have the saga undone; a refusal is said on its page."""
    try:
        operations.cancel(saga_id)
    except Conflict as refusal:
        return _saga(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.saga.show", saga_id=saga_id), 303)


@blueprint.post("/<saga_id>/resume")
def resume(saga_id: str) -> Page:
    """Set the saga moving again; a refusal is said on its page."""
    try:
        operations.resume(saga_id)
    except Conflict as refusal:
        return _saga(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.saga.show", saga_id=saga_id), 303)


def live_part(saga_id: str) -> str:
    """Return the part of a saga's page that renews itself: the same for everybody who reads its language."""
    return render_template("saga/live.html", **_facts(saga_id))


def _saga(saga_id: str, refusal: str | None = None) -> str:
    return render_template("saga.html", refusal=refusal, **_facts(saga_id))


def _facts(saga_id: str) -> dict[str, Any]:
    view = queries.saga(saga_id)
    status = view.saga.status
    return {
        "saga": view.saga,
        "operations": view.operations,
        "events": view.events,
        "moving": status in MOVING,
        "may_cancel": status in FORWARD,
        "may_resume": status == SagaStatus.STUCK,
    }
