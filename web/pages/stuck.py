"""Pages of sagas that are stuck on the same step with the same class of error: list, bulk resume, and its outcome."""

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import login_required

from app.errors import Invalid, NotFound
from app.sagas import sagas
from durable_sagas.ids import is_uuid, new_id
from durable_sagas.operations import Resumed
from durable_sagas.stuck_groups import MAX_CLASS_LENGTH, StuckGroup
from web.auth import operators
from web.fields import is_storable
from web.pages.operate import MAX_NAME_LENGTH
from workflows.read_side import saga_search

blueprint = Blueprint("stuck", __name__, url_prefix="/stuck")

MAX_STEP_LENGTH = 64
MAX_SHOWN = 50
BULK_SECONDS = 20
"""The time limit of one request, which resumes batch after batch; the rest is left to another request."""
MAX_REASONS_SHOWN = 3
MAX_REASON_LENGTH = 200


@blueprint.get("/<step>")
def show(step: str) -> ResponseReturnValue:
    """Show a group of stuck sagas."""
    stuck = saga_search.stuck_sagas(_step(step), _error() or "", MAX_SHOWN)
    return render_template("stuck/group.html", stuck=stuck, most=MAX_SHOWN)


@blueprint.route("/<step>/resume", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def resume(step: str) -> ResponseReturnValue:
    """Preview the resumption of a group, or of all sagas stuck on a step without an error class, and resume them."""
    step, error = _step(step), _error()
    if request.method == "POST":
        return _resume(step, error)
    if error is None:
        return render_template("stuck/resume.html", step=step, error=None, number=sagas.count_stuck(step))
    stuck = saga_search.stuck_sagas(step, error, 1)
    examined = saga_search.SAMPLE_SIZE if stuck.more else None
    shown = {"number": stuck.number, "until": stuck.group.until, "examined": examined}
    return render_template("stuck/resume.html", step=step, error=error, **shown)


@blueprint.get("/resumed/<first>/<last>")
@login_required  # type: ignore[untyped-decorator]
def resumed(first: str, last: str) -> ResponseReturnValue:
    """Show the sagas that were resumed together; the page refreshes itself until all have ended."""
    return render_template("stuck/resumed.html", first=first, last=last, **_outcome(first, last))


@blueprint.get("/resumed/<first>/<last>/part")
@login_required  # type: ignore[untyped-decorator]
def part(first: str, last: str) -> ResponseReturnValue:
    """Return the part of that page that refreshes itself."""
    return render_template("stuck/resumed_part.html", **_outcome(first, last))


def _resume(step: str, error: str | None) -> ResponseReturnValue:
    by = operators.name_of_operator()
    resume = (
        partial(sagas.resume_stuck, step, by=by)
        if error is None
        else partial(sagas.resume_group, StuckGroup(step, error, _until()), by=by)
    )
    first = new_id()  # ids increase with time: those of this request's operator actions lie between the two
    refused, unfinished = _resume_all(resume)
    if refused:
        flash(
            ngettext(
                "%(num)s saga was not resumed:", "%(num)s sagas were not resumed, of these the first:", len(refused)
            )
        )
    for saga_id, reason in list(refused.items())[:MAX_REASONS_SHOWN]:
        flash(f"{saga_id}: {reason[:MAX_REASON_LENGTH]}")
    if unfinished:
        flash(gettext("There was not enough time for all of them: resume the rest as well."))
    return redirect(url_for("pages.stuck.resumed", first=first, last=new_id(), by=by), 303)


def _resume_all(resume: Callable[..., Resumed]) -> tuple[dict[str, str], bool]:
    """Resume batch after batch; return the refused sagas with the reasons, and whether some are left."""
    deadline = time.monotonic() + BULK_SECONDS
    done = resume()
    refused = done.refused
    while done.next_after and time.monotonic() <= deadline:
        done = resume(after=done.next_after)
        refused = refused | done.refused
    return refused, done.next_after is not None


def _outcome(first: str, last: str) -> dict[str, object]:
    by = request.args.get("by", "")
    if not (is_uuid(first) and is_uuid(last)) or not by or not is_storable(by, MAX_NAME_LENGTH):
        raise NotFound("nothing was resumed together under this address")
    return {"by": by, "resumed": saga_search.resumed_together(first, last, by, MAX_SHOWN), "most": MAX_SHOWN}


def _step(step: str) -> str:
    if not is_storable(step, MAX_STEP_LENGTH):
        raise NotFound("there is no such step")
    return step


def _error() -> str | None:
    error = request.args.get("error")
    if error is not None and not is_storable(error, MAX_CLASS_LENGTH):
        raise NotFound("there is no such class of error")
    return error


def _until() -> datetime | None:
    text = request.form.get("until")
    try:
        until = datetime.fromisoformat(text) if text else None
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise Invalid("must be the moment that the form came with", field="until")
    return until
