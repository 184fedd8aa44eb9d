"""Compare two sagas side by side: usually the same order, in both patterns."""

from flask import Blueprint, render_template

from durable_sagas.definition import ACTIVE
from web.saga_view.detail import load
from web.saga_view.diff import compare

blueprint = Blueprint("compare", __name__, url_prefix="/compare")


@blueprint.get("/<first_id>/<second_id>")
def show(first_id: str, second_id: str) -> str:
    """Show two sagas side by side; the page refreshes itself until both have ended."""
    return _render("compare.html", first_id, second_id)


@blueprint.get("/<first_id>/<second_id>/part")
def part(first_id: str, second_id: str) -> str:
    """Return the part of the page that changes, for the script that refreshes it."""
    return _render("saga/compared.html", first_id, second_id)


def _render(template: str, first_id: str, second_id: str) -> str:
    compared = compare(load(first_id), load(second_id))
    active = any(detail.saga.status in ACTIVE for detail in compared.details)
    return render_template(template, compared=compared, active=active)
