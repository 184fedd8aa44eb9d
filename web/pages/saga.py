"""The page of one saga: its actions and compensations, what it waits for, and whether the order's ledger balances."""

from flask import Blueprint, render_template

from durable_sagas.definition import ACTIVE
from web.saga_view.detail import load
from workflows.read_side import versions

blueprint = Blueprint("saga", __name__, url_prefix="/sagas")


@blueprint.get("/<saga_id>")
def show(saga_id: str) -> str:
    """Show a saga; without JavaScript the page refreshes itself until the saga has ended."""
    # read before the rest: otherwise a change between the two reads would be missed
    version = versions.version(saga_id)
    detail = load(saga_id)
    return render_template("saga.html", detail=detail, active=detail.saga.status in ACTIVE, version=version)


def live_part(saga_id: str) -> str:
    """Return the part of the page that changes while the saga is active. Raises NotFound."""
    return render_template("saga/live.html", detail=load(saga_id))
