"""Compare two sagas side by side: usually the same order, in both patterns."""

from flask import Blueprint, render_template

from durable_sagas.definition import ACTIVE
from web.saga_view.detail import load
from web.saga_view.diff import Comparison, compare

blueprint = Blueprint("compare", __name__, url_prefix="/compare")


@blueprint.get("/<first_id>/<second_id>")
def show(first_id: str, second_id: str) -> str:
    """Show two sagas side by side; the page refreshes itself until both have ended."""
    compared = _compared(first_id, second_id)
    return render_template("compare.html", compared=compared, active=_is_active(compared))


@blueprint.get("/<first_id>/<second_id>/part")
def part(first_id: str, second_id: str) -> str:
    """Return the part of the page that changes, for the script that refreshes it."""
    compared = _compared(first_id, second_id)
    return render_template("saga/compared.html", compared=compared, active=_is_active(compared))


def _is_active(compared: Comparison) -> bool:
    return any(detail.saga.status in ACTIVE for detail in compared.details)


def _compared(first_id: str, second_id: str) -> Comparison:
    return compare(load(first_id), load(second_id))
