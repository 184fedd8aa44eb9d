"""The catalogue's forms: what was entered, as it was entered, and what it means."""

import re
from collections.abc import Mapping
from decimal import Decimal

from pydantic import BaseModel, Field

from app.errors import Refused
from app.ids import new_id
from tasks.inventory import Book
from web.api.requests import NewCategory, NewProduct
from web.fields import Amount, Delivered, Description, Id, OwnId, Title
from web.problems import FieldError
from workflows import catalogue

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,10})?", re.ASCII)
_FIELDS = ("name", "description", "price", "category_id", "stock_quantity", "book_id", "quantity", "key", "seen")


class ChangeBook(BaseModel):
    """What may be said anew of a book."""

    name: Title
    description: Description
    price: Amount
    category_id: Id | None
    seen: Id


class Keyed(BaseModel):
    """What comes with the key of its form."""

    key: OwnId = Field(min_length=1)


class TakeDelivery(Keyed):
    """New copies of a book."""

    quantity: Delivered


def entered(form: Mapping[str, str]) -> dict[str, str]:
    """Return what a submitted form holds, as text."""
    return {name: form.get(name, "").replace("\r\n", "\n") for name in _FIELDS}


def blank() -> dict[str, str]:
    """Return the fields of a new form, with a key of its own: what is sent twice is one thing."""
    return {**entered({}), "key": new_id()}


def of_book(book: Book) -> dict[str, str]:
    """Return what a book's form holds at first."""
    said = {"name": book.title, "description": book.description, "price": f"{book.price:f}"}
    return {**entered({}), **said, "category_id": book.category_id or "", "seen": catalogue.mark(book)}


def new_book(fields: Mapping[str, str]) -> NewProduct:
    """Return the book that a form describes; without an id of its own it has the form's key. Raises ValidationError."""
    return NewProduct.model_validate(
        {
            "name": fields["name"].strip(),
            "description": fields["description"],
            "price": _number(fields["price"]),
            "category_id": fields["category_id"] or None,
            "stock_quantity": _number(fields["stock_quantity"]),
            "book_id": fields["book_id"].strip() or fields["key"],
        }
    )


def changed_book(fields: Mapping[str, str]) -> ChangeBook:
    """Return what a form says of a book. Raises ValidationError."""
    said = {**fields, "name": fields["name"].strip(), "price": _number(fields["price"])}
    return ChangeBook.model_validate({**said, "category_id": fields["category_id"] or None})


def new_category(fields: Mapping[str, str]) -> NewCategory:
    """Return the category that a form describes. Raises ValidationError."""
    return NewCategory(name=fields["name"].strip(), description=fields["description"])


def key_of(fields: Mapping[str, str]) -> str:
    """Return the key that a form came with. Raises ValidationError."""
    return Keyed.model_validate({"key": fields["key"]}).key


def delivery(fields: Mapping[str, str]) -> TakeDelivery:
    """Return the delivery that a form tells of. Raises ValidationError."""
    return TakeDelivery.model_validate({"quantity": _number(fields["quantity"]), "key": fields["key"]})


def complaints(errors: list[FieldError]) -> dict[str, str]:
    """Return what is wrong, by the form's fields; what is none of those that are shown is said above them."""
    return {error.field if error.field not in {"key", "seen"} else "form": error.reason for error in errors}


def complaint(refusal: Refused) -> dict[str, str]:
    """Return what a refusal says, by the form's fields."""
    return {refusal.field if refusal.field in _FIELDS else "form": refusal.detail}


def _number(text: str) -> Decimal | str:
    # what is no number goes on as it is, to be refused by the one rule there is
    return Decimal(text.strip()) if _NUMBER.fullmatch(text.strip()) else text
