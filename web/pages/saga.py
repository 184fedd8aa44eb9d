"""The page of one saga: what it did, what it undid, what it waits for, and whether the order's ledger adds up."""

from flask import Blueprint, render_template
from markupsafe import Markup

from app.saga.definition import ACTIVE
from web.saga_view.detail import SagaDetail, story
from workflows.read_side import versions

blueprint = Blueprint("saga", __name__, url_prefix="/sagas")


@blueprint.get("/<saga_id>")
def show(saga_id: str) -> str:
    """Show what a saga did and undid; without a script the page renews itself until the saga has ended."""
    seen = versions.version(saga_id)  # before the rest is read: else a change between the two would not be shown
    told = story(saga_id)
    moving = told.saga.status in ACTIVE
    return render_template("saga.html", told=told, live=Markup(_live(told)), moving=moving, seen=seen)  # noqa: S704


def live_part(saga_id: str) -> str:
    """Return all of the page that changes while the saga moves. Raises NotFound."""
    return _live(story(saga_id))


def _live(told: SagaDetail) -> str:
    return render_template("saga/live.html", told=told)
