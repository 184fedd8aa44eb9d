"""All sagas: what needs somebody, how many there are, the newest of those that are wanted, and the one with some id."""

from datetime import datetime
from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from werkzeug.wrappers import Response

from app import runtime
from app.saga import recovery
from app.saga.definition import TERMINAL
from app.saga.models import SagaInstance
from web import cursors, problems
from web.api.requests import SagasQuery
from web.fields import PATTERN_OF, Text
from web.saga_view import icons
from web.saga_view.durations import duration
from workflows.read_side import queries, saga_search

blueprint = Blueprint("sagas", __name__, url_prefix="/sagas")

MAX_INCIDENTS = 5

Page = str | tuple[str, int] | Response


class Listed(SagasQuery):
    """Which sagas are wanted, and how many of them on a page."""

    limit: int = Field(50, ge=1, le=100)


class Sought(BaseModel):
    """What somebody searches for."""

    q: Annotated[Text, BeforeValidator(str.strip), Field(max_length=200)] = ""


@blueprint.get("")
def index() -> Page:
    """Show the newest sagas of those that are wanted, and above them what needs somebody."""
    wanted = _wanted()
    page = queries.sagas(
        status=wanted.status,
        saga_type=wanted.saga_type,
        step=wanted.step,
        customer_id=wanted.customer_id,
        after=cursors.uuid_position(wanted.cursor),
        limit=wanted.limit,
    )
    return render_template(
        "sagas/index.html",
        sagas=page.rows,
        filters=wanted.model_dump(exclude_none=True, exclude_unset=True, exclude={"cursor"}),
        at_newest=wanted.cursor is None,
        next_cursor=cursors.encode(page.rows[-1].id) if page.more else None,
        types=PATTERN_OF,
        steps=_steps(wanted.step),
        **_counts(),
        **_incidents(),
    )


@blueprint.get("/counts")
def counts() -> Page:
    """Show how many sagas there are: the part of the page that renews itself."""
    return render_template("sagas/counts.html", **_counts())


@blueprint.get("/incidents")
def incidents() -> Page:
    """Show what needs somebody: the part of the page that renews itself."""
    return render_template("sagas/incidents.html", **_incidents())


@blueprint.get("/find")
def find() -> Page:
    """Go to the saga that an id leads to; of several, or none, show that."""
    try:
        sought = Sought.model_validate(request.args.to_dict()).q
    except ValidationError as error:
        problems.raise_validation_problem(error)
    if not sought:
        return redirect(url_for("pages.sagas.index"), 303)
    found = saga_search.find_by_id(sought)
    if len(found) == 1:
        return redirect(url_for("pages.saga.show", saga_id=found[0].id), 303)
    return render_template(
        "sagas/found.html", sought=sought, sagas=found, most=saga_search.MAX_FOUND
    ), 200 if found else 404


@blueprint.app_template_filter("lasted")
def lasted(saga: SagaInstance) -> str:
    """Say how long a saga took; of one that has not ended, how old it is."""
    end = saga.updated_at if saga.status in TERMINAL else runtime.current().now()
    return duration((end - saga.created_at).total_seconds())


@blueprint.app_template_filter("since")
def since(moment: datetime) -> str:
    """Say how long ago a moment was."""
    return duration((runtime.current().now() - moment).total_seconds())


@blueprint.app_template_filter("pattern")
def pattern(saga_type: str) -> str | None:
    """Return the pattern that a saga type is of, or None of one that is declared no more."""
    return PATTERN_OF.get(saga_type)


def _wanted() -> Listed:
    # a form sends its empty fields too
    given = {name: value for name, value in request.args.items() if value}
    try:
        return Listed.model_validate(given)
    except ValidationError as error:
        problems.raise_validation_problem(error)


def _steps(chosen: str | None) -> list[str]:
    # a saga may be stuck on a step that is declared no more
    known = list(saga_search.known_steps())
    return known if chosen is None or chosen in known else [*known, chosen]


def _counts() -> dict[str, object]:
    return {"counts": [(status, icons.of_saga(status), count) for status, count in saga_search.counts().items()]}


def _incidents() -> dict[str, object]:
    swept_at = recovery.last_swept()
    return {
        "incidents": saga_search.incidents(MAX_INCIDENTS),
        "swept_at": swept_at,
        "sweep_late": recovery.is_late(swept_at),
    }
