"""The order form: raw field values, their conversion to an order, and errors by field."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Self

from app.errors import Overloaded, RequestError
from tasks.payments import PaymentMethod
from web.api.requests import MAX_LINES, IdempotencyHeader, PlaceOrder
from web.fields import MAX_COPIES
from web.i18n import translate as _
from web.problems import FieldError, ValidationProblem, validated
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER
from workflows.orders import GUEST

SERVICES = ("orders", "inventory", "payments", "shipping")

COPIES, BREAK = "copies.", "break."
"""The prefixes of the field names that exist once per book, or once per service."""


@dataclass(frozen=True)
class OrderForm:
    """The values of the form's fields, as text: ``copies`` by book id, ``faults`` by service."""

    copies: Mapping[str, str] = field(default_factory=dict)
    customer_id: str = GUEST
    payment_method: str = PaymentMethod.CREDIT_CARD
    saga_type: str = ORDER.name
    shipping_address: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Self:
        """Return the values of a submitted form; missing fields are empty."""
        return cls(_copies(form), **{name: form.get(name, "") for name in _SINGLE}, faults=_faults(form))

    @classmethod
    def prefilled(cls, query: Mapping[str, str]) -> Self:
        """Return the values of a URL's query; missing fields have their defaults."""
        return cls(_copies(query), **{name: query[name] for name in _SINGLE if name in query}, faults=_faults(query))

    def fields(self) -> dict[str, str]:
        """Return the fields as query parameters."""
        single = {name: getattr(self, name) for name in _SINGLE}
        many = {COPIES: self.copies, BREAK: self.faults}
        return {**single, **{start + name: text for start, texts in many.items() for name, text in texts.items()}}

    def idempotency_key(self, page_key: str) -> str:
        """Return the idempotency key of an order that is placed with these values from one rendered page.

        It covers the entered values: a double click repeats the key, while a form that was changed after the back
        button is a new order although the browser restored the page with its old key.
        """
        values = json.dumps([page_key, self.fields()], sort_keys=True)
        return f"form:{hashlib.sha256(values.encode()).hexdigest()}"

    def to_body(self) -> PlaceOrder:
        """Return the form as an API request. Raises ValidationProblem."""
        items = [{"book_id": book_id, "quantity": whole_number(text)} for book_id, text in self.copies.items()]
        body: dict[str, Any] = {
            "customer_id": self.customer_id.strip() or None,
            "items": items,
            "saga_type": self.saga_type,
            "payment_method": self.payment_method,
            "shipping_address": self.shipping_address or None,
            "simulate": self.faults or None,
        }
        return validated(PlaceOrder, body)

    def both_ways(self) -> tuple[Self, Self]:
        """Return the same order choreographed and orchestrated.

        The choreographed one comes first: whatever is wrong with both is refused with it, before anything was placed.
        """
        choreographed = replace(self, saga_type=ORDER_CHOREOGRAPHY.name)
        orchestrated = replace(self, saga_type=ORDER.name) if self.saga_type == ORDER_CHOREOGRAPHY.name else self
        return choreographed, orchestrated

    def form_errors(self, refusal: RequestError) -> dict[str, str]:
        """Return a refusal's messages by form field."""
        if isinstance(refusal, ValidationProblem):
            return {self._form_field(error.field): self._message(error) for error in refusal.errors}
        if isinstance(refusal, Overloaded):
            return {"form": overload_message(refusal)}
        name = self._form_field(refusal.field or "")
        if name == "customer_id":
            text = _("There is no such customer. Pick one of the list, or leave it empty to order as a guest.")
        elif name.startswith(COPIES):
            text = _no_such_book()
        else:
            text = refusal.detail
        return {name: text}

    def _form_field(self, name: str) -> str:
        """Return the form field of an API field; ``form`` if there is none."""
        first, _dot, rest = name.partition(".")
        if first == "items":
            line = rest.partition(".")[0]
            return COPIES + list(self.copies)[int(line)] if line else "basket"
        if first == "simulate" and rest in SERVICES:
            return BREAK + rest
        return name if name in _SINGLE else "form"

    def _message(self, error: FieldError) -> str:
        """Return an error's message, in user terms where the API's are too technical."""
        name = self._form_field(error.field)
        if error.field == "Idempotency-Key":
            return _("The form had lost its key. Send it again.")
        if name == "basket":
            return _("Choose at least one book, and at most %(most)s different ones.", most=MAX_LINES)
        if name.startswith(COPIES):
            copies = _("Copies are a whole number from 0 to %(most)s.", most=MAX_COPIES)
            return copies if error.field.endswith(".quantity") else _no_such_book()
        return error.reason


_SINGLE = ("customer_id", "payment_method", "saga_type", "shipping_address")


def key_of(form: Mapping[str, str]) -> str:
    """Return the idempotency key of a submitted form. Raises ValidationProblem if it is malformed."""
    return validated(IdempotencyHeader, {"Idempotency-Key": form.get("key", "")}).key or ""


def overload_message(overload: Overloaded) -> str:
    """Return what a customer is shown when no order is accepted at the moment."""
    return _(
        "So many orders are being processed that yours would have to wait too long. Please send it again in "
        "%(seconds)s seconds: what you entered is kept.",
        seconds=overload.retry_after,
    )


def _copies(form: Mapping[str, str]) -> dict[str, str]:
    entered = ((name, text.strip()) for name, text in form.items() if name.startswith(COPIES))
    chosen = ((name.removeprefix(COPIES), text) for name, text in entered if text.strip("0"))
    # one more than an order may have, so that the order is refused, not truncated
    return dict(islice(chosen, MAX_LINES + 1))


def _faults(form: Mapping[str, str]) -> dict[str, str]:
    return {service: form[BREAK + service] for service in SERVICES if form.get(BREAK + service)}


def _no_such_book() -> str:
    return _("This book is not in the catalogue. Set its copies to 0.")


def whole_number(text: str) -> int | str:
    """Return the number that a text is; other texts unchanged, for a model to reject."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
