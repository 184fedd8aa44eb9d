"""The order form: what was entered, kept as it was entered, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from app.errors import Refused
from app.ids import new_id
from web.problems import FieldError
from web.schemas import IdempotencyHeader, PlaceOrder
from workflows.order_orchestration import ORDER
from workflows.ordering import GUEST

SERVICES = ("orders", "inventory", "payments", "shipping")
FAULTS = {
    "decline": "says no, for a business reason",
    "fail:1": "fails once, then works",
    "fail:9": "fails whenever it is tried",
    "timeout": "does it, but its answer is lost",
    "hang": "hangs past its deadline",
    "undo-fail:2": "cannot be undone at first",
    "undo-fail:9": "cannot be undone: stuck",
}
_FIELDS = {
    "items.0.book_id": "book_id",
    "items.0.quantity": "quantity",
    "Idempotency-Key": "form",
    "items": "quantity",
}


@dataclass(frozen=True)
class OrderForm:
    """What the form's fields hold, as text."""

    book_id: str = ""
    quantity: str = "1"
    customer_id: str = GUEST
    payment_method: str = "credit_card"
    saga_type: str = ORDER.name
    shipping_address: str = ""
    service: str = ""
    fault: str = "decline"

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Self:
        """Return what a submitted form holds; a field that is missing is empty."""
        return cls(**{field.name: form.get(field.name, "") for field in fields(cls)})

    def to_body(self) -> PlaceOrder:
        """Return the order that it asks for. Raises pydantic.ValidationError."""
        body: dict[str, Any] = {
            "customer_id": self.customer_id,
            "items": [{"book_id": self.book_id, "quantity": _whole_number(self.quantity)}],
            "saga_type": self.saga_type,
            "payment_method": self.payment_method,
            "shipping_address": self.shipping_address or None,
            "simulate": {self.service: self.fault} if self.service else None,
        }
        return PlaceOrder.model_validate(body)


def blank_fields(form: OrderForm | None = None) -> dict[str, str]:
    """Return the fields to show, with a key of their own: sent twice they are one order, shown again another."""
    return {**asdict(form or OrderForm()), "key": new_id()}


def key_of(form: Mapping[str, str]) -> str | None:
    """Return the key that a submitted form came with. Raises pydantic.ValidationError if it is not one of ours."""
    return IdempotencyHeader.model_validate({"Idempotency-Key": form.get("key")}).key


def complaints(errors: list[FieldError]) -> dict[str, str]:
    """Return what is wrong, by the form's own fields."""
    return {_field(error.field): error.reason for error in errors}


def complaint(refusal: Refused) -> dict[str, str]:
    """Return what a refusal says, by the form's own fields."""
    if refusal.field == "Idempotency-Key":
        # the form was changed and sent again after its order had been placed: the back button
        return {"form": "An order was placed with this form already. Send it again if you want another one."}
    return {_field(refusal.field or ""): refusal.detail}


def _field(name: str) -> str:
    if name.startswith("simulate."):
        return "fault"
    own = _FIELDS.get(name, name)
    return own if own in OrderForm.__dataclass_fields__ else "form"


def _whole_number(text: str) -> int | str:
    # what is no number goes on as it is, to be refused by the one rule there is
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
