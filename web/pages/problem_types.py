"""The pages that explain the problem types: a problem document's ``type`` links to them."""

import json

from flask import Blueprint, render_template

from app.errors import NotFound
from web import problem_types

blueprint = Blueprint("problem_types", __name__, url_prefix="/problems")


@blueprint.get("")
def overview() -> str:
    """List all problem types."""
    return render_template("problems.html", problem_types=problem_types.ALL.values())


@blueprint.get("/<slug>")
def show(slug: str) -> str:
    """Explain one problem type. Raises NotFound."""
    problem_type = problem_types.ALL.get(slug)
    if problem_type is None:
        raise NotFound(f"there is no kind of error {slug}")
    return render_template(
        "problem_type.html", problem_type=problem_type, example=json.dumps(problem_type.document, indent=2)
    )
