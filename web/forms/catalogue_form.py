"""The catalogue's forms: raw field values, and their conversion to request models."""

import re
from collections.abc import Mapping
from decimal import Decimal

from pydantic import BaseModel, Field

from app.errors import RequestError
from durable_sagas.ids import new_id
from tasks.inventory import Book
from web.fields import Amount, Delivered, Description, Id, OwnId, Title
from web.problems import FieldError, Model, errors_of, validated
from workflows import catalogue

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,10})?", re.ASCII)
_VISIBLE = ("name", "description", "price", "category_id", "stock_quantity", "book_id", "quantity")


class ChangeBook(BaseModel):
    """The editable fields of a book; ``etag`` is the version that was edited."""

    name: Title
    description: Description
    price: Amount
    category_id: Id | None
    etag: Id


class HasIdempotencyKey(BaseModel):
    """A form with an idempotency key."""

    key: OwnId = Field(min_length=1)


class TakeDelivery(HasIdempotencyKey):
    """A delivery of new copies of a book."""

    quantity: Delivered


def form_values(form: Mapping[str, str]) -> dict[str, str]:
    """Return the field values of a submitted form, as text."""
    return {name: form.get(name, "").replace("\r\n", "\n") for name in (*_VISIBLE, "key", "etag")}


def initial(book: Book | None) -> dict[str, str]:
    """Return the fields of a new form, of a book if given, with a key: a form that is sent twice is processed once."""
    fields = {**form_values({}), "key": new_id()}
    if book:
        fields |= {"name": book.title, "description": book.description, "price": f"{book.price:f}"}
        fields |= {"category_id": book.category_id or "", "etag": catalogue.etag(book)}
    return fields


def read(model: type[Model], fields: Mapping[str, str]) -> Model:
    """Return the request that a form makes; a book without an id gets the form's key. Raises ValidationProblem."""
    values: dict[str, object] = {
        **fields,
        "name": fields["name"].strip(),
        "category_id": fields["category_id"] or None,
        "book_id": fields["book_id"].strip() or fields["key"],
        **{name: _number(fields[name]) for name in ("price", "stock_quantity", "quantity")},
    }
    return validated(model, {name: values[name] for name in model.model_fields})


def form_errors(refusal: RequestError) -> dict[str, str]:
    """Return a refusal's messages by form field; all others under ``form``, which is displayed above the fields."""
    errors = errors_of(refusal) or [FieldError(field="form", reason=refusal.detail)]
    return {error.field if error.field in _VISIBLE else "form": error.reason for error in errors}


def _number(text: str) -> Decimal | str:
    # other texts are returned unchanged, for the model to reject
    return Decimal(text.strip()) if _NUMBER.fullmatch(text.strip()) else text
