"""The shop: fill a basket, choose who drives the order, break a service if you like, and place it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Self

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from pydantic import ValidationError
from werkzeug.wrappers import Response

from app import runtime
from app.errors import Invalid, Refused
from app.ids import new_id
from app.saga.definition import Command
from tasks import inventory, orders, payments, shipping
from tasks.inventory import Book
from tasks.payments import PaymentMethod
from web import cursors, problems
from web.fields import MAX_COPIES, MAX_ID_LENGTH, MAX_PATH_LENGTH, MAX_TITLE_LENGTH, is_storable
from web.forms import order_form
from web.forms.order_form import OrderForm
from web.order_placement import place
from web.saga_view.saga_types import WAYS
from workflows.orders import PlacedOrder
from workflows.read_side import queries

blueprint = Blueprint("shop", __name__)

LATEST = 10
BOOKS_PER_PAGE = 20
MAX_CHOICES = 100

Page = str | tuple[str, int] | Response


@dataclass(frozen=True)
class BookSearch:
    """Which books of the catalogue are shown. Raises Invalid if it is nothing that could be looked for."""

    text: str = ""
    category_id: str = ""
    after: str = ""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Self:
        """Return what a form, or an address, looks for. Raises Invalid."""
        finding = cls(form.get("q", "").strip(), form.get("category", ""), form.get("after", ""))
        if not is_storable(finding.text + finding.category_id):
            raise Invalid("no book could be called that", field="q")
        cursors.text_position(finding.after)
        return finding

    def fields(self) -> dict[str, str]:
        """Return the fields as an address holds them."""
        named = {"q": self.text, "category": self.category_id, "after": self.after}
        return {name: text for name, text in named.items() if text}

    def books(self) -> queries.Page[Book]:
        """Return the page of books that is looked for. Raises Invalid."""
        after = cursors.text_position(self.after)
        if len(self.text) > MAX_TITLE_LENGTH or len(self.category_id) > MAX_ID_LENGTH:
            return queries.Page([], more=False)  # nothing has so long a name, and SQLite fails on a long pattern
        category_id = self.category_id or None
        return queries.books(category_id=category_id, text=self.text or None, after=after, limit=BOOKS_PER_PAGE)


@dataclass(frozen=True)
class Line:
    """A book of the basket: what was entered, and what is known of it. ``book`` is None if there is none."""

    book_id: str
    copies: str
    book: Book | None

    @property
    def title(self) -> str:
        """What to call it."""
        return self.book.title if self.book else self.book_id

    @property
    def number(self) -> int:
        """How many copies; 0 for what is no number yet."""
        return int(self.copies) if self.copies.isascii() and self.copies.isdigit() and len(self.copies) < 10 else 0

    @property
    def cost(self) -> Decimal:
        """What so many copies cost."""
        return self.book.price * self.number if self.book else Decimal(0)

    @property
    def is_short(self) -> bool:
        """Whether more is wanted than there is."""
        return self.book is not None and self.number > self.book.available_stock


@blueprint.get("/")
def home() -> Page:
    """Show the order form, the books that are looked for, and the latest sagas."""
    form, finding = OrderForm.prefilled(request.args), BookSearch.read(request.args)
    if not form.copies and "customer_id" not in request.args:
        form = replace(form, copies=_first_choice(finding))
    return _home(form, finding)


@blueprint.post("/basket")
def find_books() -> Page:
    """Show other books, or the basket added up, and keep what was entered."""
    form, finding = OrderForm.read(request.form), BookSearch.read(request.form)
    fields: dict[str, Any] = {**form.fields(), **finding.fields()}
    address = url_for("pages.shop.home", **fields, _anchor="books")
    return redirect(address, 303) if len(address) <= MAX_PATH_LENGTH else _home(form, finding)


@blueprint.post("/place")
def place_order() -> Page:
    """Place the order in the form, one way or both, and go to its saga; what is wrong is said on the form."""
    form = OrderForm.read(request.form)
    try:
        key = form.idempotency_key(order_form.key_of(request.form))
        if request.form.get("way") == "both":
            return _place_both(form, key)
        placed = _place(form, key)
    except ValidationError as error:
        return _refused(form, form.complaints(problems.field_errors(error)), 422)
    except Refused as refusal:
        return _refused(form, form.complaint(refusal), refusal.status)
    flash_if_replayed([placed])
    return redirect(url_for("pages.saga.show", saga_id=placed.saga_id), 303)


def flash_if_replayed(placed: Iterable[PlacedOrder]) -> None:
    """Flash a notice if an earlier request had placed all of these orders."""
    if all(order.repeated for order in placed):
        flash(gettext("This was sent before: you see what it placed then, and nothing was placed again."))


def _place(form: OrderForm, key: str) -> PlacedOrder:
    body = form.to_body()
    return place(body, body.to_order(), key)


def _place_both(form: OrderForm, key: str) -> Page:
    first, second = form.both_ways()
    choreographed = _place(first, f"{key}:choreography")
    try:
        orchestrated = _place(second, f"{key}:orchestration")
    except Refused as refusal:
        complaints = {**form.complaint(refusal), "form": gettext("Only the choreographed order was placed.")}
        return _refused(form, complaints, refusal.status, placed=choreographed)
    flash_if_replayed([choreographed, orchestrated])
    first_id, second_id = orchestrated.saga_id, choreographed.saga_id
    return redirect(url_for("pages.compare.show", first_id=first_id, second_id=second_id), 303)


def _refused(form: OrderForm, complaints: Mapping[str, str], status: int, placed: PlacedOrder | None = None) -> Page:
    try:
        finding = BookSearch.read(request.form)
    except Invalid:
        finding = BookSearch()
    return _home(form, finding, complaints, placed), status


def _first_choice(finding: BookSearch) -> dict[str, str]:
    """Return a basket to begin with: one copy of the first book that is there."""
    return next(({book.book_id: "1"} for book in finding.books().rows if book.available_stock), {})


def _home(
    form: OrderForm, finding: BookSearch, complaints: Mapping[str, str] | None = None, placed: PlacedOrder | None = None
) -> str:
    page = finding.books()
    shown = {book.book_id: book for book in page.rows}
    lines = _lines(form, shown)
    categories = queries.categories(limit=MAX_CHOICES).rows
    return render_template(
        "home.html",
        form=form,
        key=new_id(),
        complaints=complaints or {},
        placed=placed,
        finding=finding,
        books=page.rows,
        next_page=cursors.encode(page.rows[-1].book_id) if page.more else None,
        lines=lines,
        elsewhere=[line for line in lines if line.book_id not in shown],
        any_short=any(line.is_short for line in lines),
        total=sum((line.cost for line in lines), Decimal(0)),
        categories={category.id: category.name for category in categories},
        customers=queries.customers(limit=MAX_CHOICES).rows,
        payment_methods=_PAYMENT_METHODS,
        ways=WAYS,
        most_copies=MAX_COPIES,
        faults_allowed=runtime.current().settings.faults_allowed,
        faults=_faults(),
        sagas=queries.sagas(limit=LATEST).rows,
    )


def _lines(form: OrderForm, shown: Mapping[str, Book]) -> list[Line]:
    missing = [book_id for book_id in form.copies if book_id not in shown and is_storable(book_id)]
    known = {**shown, **(queries.books_named(missing) if missing else {})}
    return [Line(book_id, copies, known.get(book_id)) for book_id, copies in form.copies.items()]


_PAYMENT_METHODS = {PaymentMethod.CREDIT_CARD: _("Credit card"), PaymentMethod.E_MONEY: _("E-money")}


def _faults() -> dict[str, dict[str, str]]:
    """Return what may go wrong in each service."""
    actions = (orders.create_order, inventory.reserve_stock, payments.process_payment, shipping.arrange_shipping)
    return {action.service: dict(_faults_of(action)) for action in actions}


def _faults_of(action: Command) -> Iterable[tuple[str, str]]:
    deadline = runtime.current().settings.step_timeout_seconds
    survived = action.retry.attempts - 1 if action.retry else 0
    yield "decline", gettext("says no")
    yield f"fail:{survived}", gettext("fails, then works (%(times)s×)", times=survived)
    yield "fail:9", gettext("fails until it is given up")
    if action.call:
        yield "timeout", gettext("does it, but the answer is lost")
    yield "hang", gettext("hangs past its deadline (%(seconds)s s)", seconds=f"{deadline:g}")
    yield "undo-fail:2", gettext("cannot be undone at first")
    yield "undo-fail:9", gettext("cannot be undone: gets stuck")
