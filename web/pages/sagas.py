"""The list of sagas: incidents, counts by status, a filtered list newest first, and search by id."""

from datetime import datetime
from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, BeforeValidator, Field

from app import runtime
from app.sagas import sagas
from durable_sagas.definition import TERMINAL
from durable_sagas.models import SagaInstance
from web import cursors
from web.api.requests import SagasQuery
from web.fields import PATTERN_OF, Text
from web.problems import validated
from web.saga_view import icons
from web.text import duration
from workflows.read_side import saga_search

blueprint = Blueprint("sagas", __name__, url_prefix="/sagas")

MAX_INCIDENTS = 5


class ListQuery(SagasQuery):
    """Filters and page of the list of sagas."""

    limit: int = Field(50, ge=1, le=100)


class SearchQuery(BaseModel):
    """The search by id."""

    q: Annotated[Text, BeforeValidator(str.strip), Field(max_length=200)] = ""


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Show the sagas that match the filters, newest first, and above them the incidents."""
    # forms also send their empty fields
    query = validated(ListQuery, {name: value for name, value in request.args.items() if value})
    page = query.page()
    return render_template(
        "sagas/index.html",
        sagas=page.rows,
        filters=query.model_dump(exclude_none=True, exclude_unset=True, exclude={"cursor"}),
        at_newest=query.cursor is None,
        next_cursor=cursors.next_cursor(page),
        types=PATTERN_OF,
        steps=_steps(query.step),
        **_counts(),
        **_incidents(),
    )


@blueprint.get("/counts")
def counts() -> ResponseReturnValue:
    """Show the counts by status, for the part of the page that refreshes itself."""
    return render_template("sagas/counts.html", **_counts())


@blueprint.get("/incidents")
def incidents() -> ResponseReturnValue:
    """Show the incidents, for the part of the page that refreshes itself."""
    return render_template("sagas/incidents.html", **_incidents())


@blueprint.get("/find")
def find() -> ResponseReturnValue:
    """Redirect to the saga that an id identifies; list the matches if there are several, or none."""
    identifier = validated(SearchQuery, request.args.to_dict()).q
    if not identifier:
        return redirect(url_for("pages.sagas.index"), 303)
    found = saga_search.find_by_id(identifier)
    if len(found) == 1:
        return redirect(url_for("pages.saga.show", saga_id=found[0].id), 303)
    return render_template(
        "sagas/found.html", identifier=identifier, sagas=found, most=saga_search.MAX_FOUND
    ), 200 if found else 404


@blueprint.app_template_filter("lasted")
def lasted(saga: SagaInstance) -> str:
    """Return a saga's duration; its age if it has not ended."""
    end = saga.updated_at if saga.status in TERMINAL else runtime.current().now()
    return duration((end - saga.created_at).total_seconds())


@blueprint.app_template_filter("since")
def since(moment: datetime) -> str:
    """Return the time elapsed since a moment."""
    return duration((runtime.current().now() - moment).total_seconds())


@blueprint.app_template_filter("pattern")
def pattern(saga_type: str) -> str | None:
    """Return the pattern of a saga type; None if the type is no longer declared."""
    return PATTERN_OF.get(saga_type)


def _steps(chosen: str | None) -> list[str]:
    # a saga may be stuck on a step that is no longer declared
    known = list(saga_search.known_steps())
    return known if chosen is None or chosen in known else [*known, chosen]


def _counts() -> dict[str, object]:
    return {"counts": [(status, icons.of_saga(status), count) for status, count in saga_search.counts().items()]}


def _incidents() -> dict[str, object]:
    swept_at = sagas.last_swept()
    return {
        "incidents": saga_search.incidents(MAX_INCIDENTS),
        "swept_at": swept_at,
        "admission": sagas.admission.status(),
        "sweep_late": sagas.is_sweep_late(swept_at),
    }
