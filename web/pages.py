"""The pages: order a book, break it, and watch what happens. They work without JavaScript."""

from collections.abc import Mapping

from flask import Blueprint, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response

from app import runtime
from app.errors import Conflict, Refused
from app.saga import operations
from app.saga.definition import FORWARD, MOVING, SagaStatus
from tasks.payments import PaymentMethod
from web import glyphs, order_form, problems
from web.fields import MOST_COPIES, PATTERN_OF
from web.order_form import OrderForm
from web.placing import place
from workflows import queries

blueprint = Blueprint("pages", __name__)

LATEST = 10
MOST_CHOICES = 100

Page = str | tuple[str, int] | Response


@blueprint.app_context_processor
def _vocabulary() -> dict[str, object]:
    return {"saga_mark": glyphs.of_saga, "operation_mark": glyphs.of_operation}


@blueprint.get("/")
def home() -> Page:
    """Show the order form and the latest sagas."""
    return _home(order_form.blank_fields())


@blueprint.post("/place")
def place_order() -> Page:
    """Place the order in the form and go to its saga; what is wrong is said on the form."""
    form = OrderForm.read(request.form)
    try:
        body = form.to_body()
        placed = place(body, body.to_order(), order_form.key_of(request.form))
    except ValidationError as error:
        complaints = order_form.complaints(problems.field_errors(error))
        return _home(order_form.blank_fields(form), complaints), 422
    except Refused as refusal:
        return _home(order_form.blank_fields(form), order_form.complaint(refusal)), refusal.status
    return redirect(url_for("pages.show_saga", saga_id=placed.saga_id), 303)


@blueprint.get("/sagas/<saga_id>")
def show_saga(saga_id: str) -> Page:
    """Show what a saga did and undid; the page renews itself until the saga has ended."""
    return _saga(saga_id)


@blueprint.post("/sagas/<saga_id>/cancel")
def cancel_saga(saga_id: str) -> Page:
    """Have the saga undone; a refusal is said on its page."""
    try:
        operations.cancel(saga_id)
    except Conflict as refusal:
        return _saga(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.show_saga", saga_id=saga_id), 303)


@blueprint.post("/sagas/<saga_id>/resume")
def resume_saga(saga_id: str) -> Page:
    """Set the saga moving again; a refusal is said on its page."""
    try:
        operations.resume(saga_id)
    except Conflict as refusal:
        return _saga(saga_id, refusal.detail), refusal.status
    return redirect(url_for("pages.show_saga", saga_id=saga_id), 303)


def _home(fields: Mapping[str, str], complaints: Mapping[str, str] | None = None) -> str:
    return render_template(
        "home.html",
        fields=fields,
        complaints=complaints or {},
        books=queries.books(limit=MOST_CHOICES).rows,
        customers=queries.customers(limit=MOST_CHOICES).rows,
        payment_methods=list(PaymentMethod),
        patterns=PATTERN_OF,
        most_copies=MOST_COPIES,
        faults_allowed=runtime.current().settings.faults_allowed,
        services=order_form.SERVICES,
        faults=order_form.FAULTS,
        sagas=queries.sagas(limit=LATEST).rows,
    )


def _saga(saga_id: str, refusal: str | None = None) -> str:
    view = queries.saga(saga_id)
    status = view.saga.status
    return render_template(
        "saga.html",
        saga=view.saga,
        operations=view.operations,
        events=view.events,
        refusal=refusal,
        moving=status in MOVING,
        may_cancel=status in FORWARD,
        may_resume=status == SagaStatus.STUCK,
    )
