"""Operator pages: login and logout, and actions on a saga, each with a preview to confirm."""

from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from flask_login import current_user, login_required

from app.errors import Conflict
from app.sagas import sagas
from durable_sagas.definition import OperatorActionType
from durable_sagas.manual_completion import ManualCompletion
from web.auth import operators
from web.fields import is_blank, is_storable, own_path
from web.saga_view.manual_completion import consequences
from workflows.operations import operator_password
from workflows.operations.preview import preview

blueprint = Blueprint("operate", __name__)

MAX_NAME_LENGTH = 200
MAX_NOTE_LENGTH = 5000

DONE = {
    OperatorActionType.CANCEL: _("Cancellation requested: this page shows whether it came in time."),
    OperatorActionType.RESUME: _("Resumed: it continues where it stopped."),
    OperatorActionType.SKIP: _("Skipped as resolved manually: it continues with the next step."),
}


@blueprint.route("/operator/login", methods=["GET", "POST"])
def log_in() -> ResponseReturnValue:
    """Show the login form, log in an operator with the right password, and redirect to the requested page."""
    onward = own_path(request.values.get("next", "")) or url_for("pages.shop.home")
    if request.method == "GET":
        return redirect(onward, 303) if current_user.is_authenticated else _login(onward)
    name = request.form.get("name", "").strip()
    if is_blank(name) or not is_storable(name, MAX_NAME_LENGTH):
        return _login(onward, name, name=gettext("Enter your name, in 1 to 200 characters.")), 422
    if not operators.log_in(name, request.form.get("password", "")):
        return _login(onward, name, password=gettext("This is not the password.")), 403
    return redirect(onward, 303)


@blueprint.post("/operator/logout")
@login_required  # type: ignore[untyped-decorator]
def log_out() -> ResponseReturnValue:
    """End the operator's session."""
    operators.log_out()
    return redirect(url_for("pages.shop.home"), 303)


@blueprint.route("/sagas/<saga_id>/cancel", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def cancel(saga_id: str) -> ResponseReturnValue:
    """Preview the cancellation of a saga, and request it on confirmation."""
    return _act(OperatorActionType.CANCEL, saga_id, lambda: sagas.cancel(saga_id, by=operators.name_of_operator()))


@blueprint.route("/sagas/<saga_id>/resume", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def resume(saga_id: str) -> ResponseReturnValue:
    """Preview the resumption of a saga, and resume it on confirmation."""
    return _act(OperatorActionType.RESUME, saga_id, lambda: sagas.resume(saga_id, by=operators.name_of_operator()))


@blueprint.route("/sagas/<saga_id>/skip", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def skip(saga_id: str) -> ResponseReturnValue:
    """Preview the skipping of a step, and record its manual completion on confirmation."""
    note, step = request.form.get("note", "").strip(), request.form.get("step")
    errors = {}
    if is_blank(note) or not is_storable(note, MAX_NOTE_LENGTH):
        errors["note"] = gettext("Describe what was resolved manually, and why, in 1 to 5,000 characters.")
    if not step:  # without it the confirmation could be recorded for another step than the displayed one
        errors["step"] = gettext("Choose a step.")
    if request.method == "POST" and errors:
        return _show_preview(OperatorActionType.SKIP, saga_id, errors=errors), 422
    completion = ManualCompletion(by=operators.name_of_operator(), note=note, step=step)
    return _act(OperatorActionType.SKIP, saga_id, lambda: sagas.skip(saga_id, completion))


def _act(action: OperatorActionType, saga_id: str, do: Callable[[], object]) -> ResponseReturnValue:
    """Preview an operator action; on confirmation perform it and redirect to the saga."""
    if request.method == "GET":
        return _show_preview(action, saga_id)
    try:
        do()
    except Conflict as refusal:
        return _show_preview(action, saga_id, refusal=refusal.detail), refusal.status
    flash(str(DONE[action]))
    return redirect(url_for("pages.saga.show", saga_id=saga_id), 303)


def _show_preview(
    action: OperatorActionType, saga_id: str, *, refusal: str | None = None, errors: dict[str, str] | None = None
) -> str:
    return render_template(
        f"operate/{action}.html",
        preview=preview(saga_id),
        refusal=refusal,
        errors=errors or {},
        note=request.form.get("note", ""),
        chosen=request.form.get("step"),
        consequences=consequences,
    )


def _login(onward: str, entered_name: str = "", **errors: str) -> str:
    return render_template(
        "operate/login.html",
        next=onward,
        name=entered_name,
        errors=errors,
        password_exists=operator_password.exists(),
    )
