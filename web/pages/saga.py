"""The page of one saga: its actions and compensations, what it waits for, and whether the order's ledger balances."""

from flask import Blueprint, render_template
from markupsafe import Markup

from durable_sagas.definition import ACTIVE
from web.saga_view.detail import SagaDetail, story
from workflows.read_side import versions

blueprint = Blueprint("saga", __name__, url_prefix="/sagas")


@blueprint.get("/<saga_id>")
def show(saga_id: str) -> str:
    """Show a saga; without JavaScript the page refreshes itself until the saga has ended."""
    seen = versions.version(saga_id)  # read before the rest: otherwise a change between the two reads would be missed
    told = story(saga_id)
    moving = told.saga.status in ACTIVE
    return render_template("saga.html", told=told, live=Markup(_live(told)), moving=moving, seen=seen)  # noqa: S704


def live_part(saga_id: str) -> str:
    """Return the part of the page that changes while the saga is active. Raises NotFound."""
    return _live(story(saga_id))


def _live(told: SagaDetail) -> str:
    return render_template("saga/live.html", told=told)
