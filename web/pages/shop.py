"""The shop: choose a book, break the order if you like, and place it."""

from collections.abc import Mapping

from flask import Blueprint, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response

from app import runtime
from app.errors import Refused
from tasks.payments import PaymentMethod
from web import order_form, problems
from web.fields import MOST_COPIES, PATTERN_OF
from web.order_form import OrderForm
from web.placing import place
from workflows import queries

blueprint = Blueprint("shop", __name__)

LATEST = 10
MOST_CHOICES = 100

Page = str | tuple[str, int] | Response


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
    return redirect(url_for("pages.saga.show", saga_id=placed.saga_id), 303)


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
