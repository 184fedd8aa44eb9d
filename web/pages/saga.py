"""The page of one saga: what it did, what it undid, what it waits for, and whether the order's ledger adds up."""

from flask import Blueprint, redirect, render_template, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from app.errors import Conflict
from app.saga import operations
from app.saga.definition import MOVING
from web.story import Story, story

blueprint = Blueprint("saga", __name__, url_prefix="/sagas")

Page = str | tuple[str, int] | Response


@blueprint.get("/<saga_id>")
def show(saga_id: str) -> Page:
    """Show what a saga did and undid; without a script the page renews itself until the saga has ended."""
    return _page(saga_id)


@blueprint.post("/<saga_id>/cancel")
def cancel(saga_id: str) -> Page:
    """Have the saga undone; a refusal is said on its page."""
    try:
        operations.cancel(saga_id)
    except Conflict as refusal:
        return _page(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.saga.show", saga_id=saga_id), 303)


@blueprint.post("/<saga_id>/resume")
def resume(saga_id: str) -> Page:
    """Set the saga moving again; a refusal is said on its page."""
    try:
        operations.resume(saga_id)
    except Conflict as refusal:
        return _page(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.saga.show", saga_id=saga_id), 303)


def live_part(saga_id: str) -> str:
    """Return all of the page that changes while the saga moves. Raises NotFound."""
    return _live(story(saga_id))


def _live(told: Story) -> str:
    return render_template("saga/live.html", told=told)


def _page(saga_id: str, refusal: str | None = None) -> str:
    told = story(saga_id)
    moving = told.saga.status in MOVING
    return render_template("saga.html", saga=told.saga, live=Markup(_live(told)), refusal=refusal, moving=moving)  # noqa: S704
