"""The shop page: fill a basket, choose a saga type, optionally simulate faults, and place the order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from pydantic import BaseModel, BeforeValidator, field_validator
from werkzeug.wrappers import Response

from app import runtime
from app.errors import Invalid, Overloaded, RequestError
from durable_sagas.definition import Command
from durable_sagas.ids import new_id
from tasks import inventory, orders, payments, shipping
from tasks.inventory import Book
from tasks.payments import PaymentMethod
from web import cursors
from web.fields import MAX_COPIES, MAX_ID_LENGTH, MAX_PATH_LENGTH, MAX_TITLE_LENGTH, PATTERN_OF, Text, is_storable
from web.forms import order_form
from web.forms.order_form import OrderForm
from web.order_placement import place
from web.problems import validated
from web.saga_view.saga_types import WAYS
from workflows.orders import PlacedOrder
from workflows.read_side import queries

blueprint = Blueprint("shop", __name__)

LATEST = 10
BOOKS_PER_PAGE = 20
MAX_CHOICES = 100


class BookSearch(BaseModel):
    """The search for books of the catalogue, by the names of the form's fields."""

    q: Annotated[Text, BeforeValidator(str.strip)] = ""
    category: Text = ""
    after: str = ""

    @field_validator("after")
    @classmethod
    def _readable(cls, cursor: str) -> str:
        cursors.text_position(cursor)
        return cursor

    def books(self) -> queries.Page[Book]:
        """Return the page of books that match. Raises Invalid."""
        after = cursors.text_position(self.after)
        if len(self.q) > MAX_TITLE_LENGTH or len(self.category) > MAX_ID_LENGTH:
            return queries.Page([], more=False)  # no title is that long, and SQLite fails on long patterns
        category_id = self.category or None
        return queries.books(category_id=category_id, text=self.q or None, after=after, limit=BOOKS_PER_PAGE)


@dataclass(frozen=True)
class BasketLine:
    """A line of the basket: the entered copies, and the book; None if it is not in the catalogue."""

    book_id: str
    copies: str
    book: Book | None

    @property
    def title(self) -> str:
        """The book's title; its id if it is not in the catalogue."""
        return self.book.title if self.book else self.book_id

    @property
    def number(self) -> int:
        """The number of copies; 0 if the entered text is not a number."""
        number = order_form.whole_number(self.copies)
        return number if isinstance(number, int) else 0

    @property
    def cost(self) -> Decimal:
        """The price of the copies."""
        return self.book.price * self.number if self.book else Decimal(0)

    @property
    def is_short(self) -> bool:
        """Whether more copies are requested than available."""
        return self.book is not None and self.number > self.book.available_stock


@blueprint.get("/")
def home() -> ResponseReturnValue:
    """Show the order form, the books that match the search, and the latest sagas."""
    form, search = OrderForm.prefilled(request.args), validated(BookSearch, request.args.to_dict())
    if not form.copies and "customer_id" not in request.args:
        available = (book.book_id for book in search.books().rows if book.available_stock)
        form = replace(form, copies=dict.fromkeys(islice(available, 1), "1"))
    return _home(form, search)


@blueprint.post("/basket")
def find_books() -> ResponseReturnValue:
    """Search for books or recalculate the basket, and keep the entered values."""
    form, search = OrderForm.read(request.form), validated(BookSearch, request.form.to_dict())
    fields: dict[str, Any] = {**form.fields(), **search.model_dump(exclude_defaults=True)}
    address = url_for("pages.shop.home", **fields, _anchor="books")
    return redirect(address, 303) if len(address) <= MAX_PATH_LENGTH else _home(form, search)


@blueprint.post("/place")
def place_order() -> ResponseReturnValue:
    """Place the order in one saga type or in both patterns, and redirect to its saga; errors are shown on the form."""
    form, both = OrderForm.read(request.form), request.form.get("way") == "both"
    placed: list[PlacedOrder] = []
    try:
        key = form.idempotency_key(order_form.key_of(request.form))
        for one in form.both_ways() if both else [form]:
            body = one.to_body()
            placed.append(place(body, body.to_order(), f"{key}:{PATTERN_OF[one.saga_type]}" if both else key))
    except RequestError as refusal:
        errors = form.form_errors(refusal)
        if placed:
            errors["form"] = gettext("Only the choreographed order was placed.")
        try:
            search = validated(BookSearch, request.form.to_dict())
        except Invalid:
            search = BookSearch()
        if isinstance(refusal, Overloaded):
            # with its key: sending it again places what is missing
            page = _home(form, search, errors, next(iter(placed), None), request.form.get("key"))
            return page, refusal.status, {"Retry-After": str(refusal.retry_after)}
        return _home(form, search, errors, next(iter(placed), None)), refusal.status
    return redirect_to(*reversed(placed))


def redirect_to(*placed: PlacedOrder) -> Response:
    """Redirect to the saga of an order, or to the comparison of two; say so if an earlier request had placed them."""
    if all(order.replayed for order in placed):
        flash(gettext("This was sent before: you see the order that it placed, and no new order was placed."))
    if len(placed) == 1:
        address = url_for("pages.saga.show", saga_id=placed[0].saga_id)
    else:
        address = url_for("pages.compare.show", first_id=placed[0].saga_id, second_id=placed[1].saga_id)
    return redirect(address, 303)


def _home(
    form: OrderForm,
    search: BookSearch,
    errors: Mapping[str, str] | None = None,
    placed: PlacedOrder | None = None,
    key: str | None = None,
) -> str:
    page = search.books()
    shown = {book.book_id: book for book in page.rows}
    lines = _lines(form, shown)
    categories = queries.categories(limit=MAX_CHOICES).rows
    return render_template(
        "home.html",
        form=form,
        key=key or new_id(),
        errors=errors or {},
        placed=placed,
        search=search,
        books=page.rows,
        next_page=cursors.next_cursor(page),
        lines=lines,
        elsewhere=[line for line in lines if line.book_id not in shown],
        any_short=any(line.is_short for line in lines),
        total=sum((line.cost for line in lines), Decimal(0)),
        categories={category.id: category.name for category in categories},
        customers=queries.customers(limit=MAX_CHOICES).rows,
        payment_methods=_PAYMENT_METHODS,
        ways=WAYS,
        max_copies=MAX_COPIES,
        faults_allowed=runtime.current().settings.faults_allowed,
        faults=_faults(),
        sagas=queries.sagas(limit=LATEST).rows,
    )


def _lines(form: OrderForm, shown: Mapping[str, Book]) -> list[BasketLine]:
    missing = [book_id for book_id in form.copies if book_id not in shown and is_storable(book_id)]
    known = {**shown, **(queries.books_named(missing) if missing else {})}
    return [BasketLine(book_id, copies, known.get(book_id)) for book_id, copies in form.copies.items()]


_PAYMENT_METHODS = {PaymentMethod.CREDIT_CARD: _("Credit card"), PaymentMethod.E_MONEY: _("E-money")}


def _faults() -> dict[str, dict[str, str]]:
    """Return the faults that can be simulated in each service, with their labels."""
    actions = (orders.create_order, inventory.reserve_stock, payments.process_payment, shipping.arrange_shipping)
    return {action.service: dict(_faults_of(action)) for action in actions}


def _faults_of(action: Command) -> Iterable[tuple[str, str]]:
    deadline = runtime.current().settings.step_timeout_seconds
    survived = action.retry.attempts - 1 if action.retry else 0
    yield "decline", gettext("rejects")
    yield f"fail:{survived}", gettext("fails, then succeeds (%(times)s×)", times=survived)
    yield "fail:9", gettext("fails until its retries are exhausted")
    if action.call:
        yield "timeout", gettext("succeeds, but the response is lost")
    yield "hang", gettext("hangs past its deadline (%(seconds)s s)", seconds=f"{deadline:g}")
    yield "undo-fail:2", gettext("compensation fails at first")
    yield "undo-fail:9", gettext("compensation keeps failing: gets stuck")
