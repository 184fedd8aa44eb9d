"""The catalogue pages: books with price, stock and category, public to view, and for operators to edit."""

from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import login_required

from app.errors import Conflict, RequestError
from durable_sagas.ids import new_id
from tasks.inventory import Book
from web import cursors
from web.api.requests import NewCategory, NewProduct
from web.auth import operators
from web.fields import MAX_ID_LENGTH, is_storable
from web.forms import catalogue_form
from web.forms.catalogue_form import ChangeBook, HasIdempotencyKey, TakeDelivery
from workflows import catalogue
from workflows.read_side import queries

blueprint = Blueprint("catalogue", __name__, url_prefix="/catalogue")

BOOKS_ON_A_PAGE = 50
MAX_CATEGORIES = 200
DELIVERIES_SHOWN = 10

Fields = dict[str, str]


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Show the books of the shop, or of one category, ordered by id."""
    category_id = request.args.get("category", "")
    selected = category_id if is_storable(category_id, MAX_ID_LENGTH) else ""
    after = cursors.text_position(request.args.get("cursor"))
    page = queries.books(category_id=selected or None, after=after, limit=BOOKS_ON_A_PAGE)
    return render_template(
        "catalogue/index.html",
        books=page.rows,
        category_id=selected,
        at_first=after is None,
        next_cursor=cursors.next_cursor(page),
        **_categories(),
    )


@blueprint.get("/books/<book_id>")
def show(book_id: str) -> ResponseReturnValue:
    """Show a book, its stock, and its latest deliveries."""
    book = _book(book_id)
    return render_template(
        "catalogue/book.html",
        book=book,
        shipped=book.received_stock - book.available_stock - book.reserved_stock,
        deliveries=catalogue.deliveries(book_id, limit=DELIVERIES_SHOWN),
        **_categories(),
    )


@blueprint.route("/new/book", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def add_book() -> ResponseReturnValue:
    """Put a new book on sale."""

    def add(fields: Fields) -> ResponseReturnValue:
        body = catalogue_form.read(NewProduct, fields)
        try:
            book = catalogue.add_book(body.to_book())
        except Conflict:
            if body.book_id != fields["key"]:
                raise
            return redirect(url_for("pages.catalogue.show", book_id=body.book_id), 303)  # the form was sent twice
        return _done(gettext("%(title)s is on sale now.", title=book.title), book.book_id)

    return _form("catalogue/new_book.html", add)


@blueprint.route("/new/category", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def add_category() -> ResponseReturnValue:
    """Open a new category."""

    def add(fields: Fields) -> ResponseReturnValue:
        body = catalogue_form.read(NewCategory, fields)
        key = catalogue_form.read(HasIdempotencyKey, fields).key
        try:
            catalogue.add_category(body.name, body.description, category_id=key)
        except Conflict:
            pass  # the form was sent twice
        else:
            flash(gettext("The category %(name)s is open.", name=body.name))
        return redirect(url_for("pages.catalogue.index", category=key), 303)

    return _form("catalogue/new_category.html", add)


@blueprint.route("/books/<book_id>/change", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def change(book_id: str) -> ResponseReturnValue:
    """Change a book's title, description, category and price."""
    book = _book(book_id)

    def change_it(fields: Fields) -> ResponseReturnValue:
        body = catalogue_form.read(ChangeBook, fields)
        catalogue.change_book(
            book_id,
            title=body.name,
            description=body.description,
            price=body.price,
            category_id=body.category_id,
            expected_etag=body.etag,
        )
        return _done(gettext("Changed. Orders placed before keep the price that they were placed at."), book_id)

    return _form("catalogue/change.html", change_it, book)


@blueprint.route("/books/<book_id>/restock", methods=["GET", "POST"])
@login_required  # type: ignore[untyped-decorator]
def restock(book_id: str) -> ResponseReturnValue:
    """Take delivery of new copies."""
    book = _book(book_id)

    def take(fields: Fields) -> ResponseReturnValue:
        body = catalogue_form.read(TakeDelivery, fields)
        catalogue.restock(book_id, body.quantity, by=operators.name_of_operator(), key=body.key)
        message = ngettext("%(num)s copy was taken into stock.", "%(num)s copies were taken into stock.", body.quantity)
        return _done(message, book_id)

    return _form("catalogue/restock.html", take, book)


def _form(template: str, do: Callable[[Fields], ResponseReturnValue], book: Book | None = None) -> ResponseReturnValue:
    """Show a form, and process it when submitted; on errors show it again with messages and the entered values."""
    if request.method == "GET":
        return render_template(template, fields=catalogue_form.initial(book), errors={}, book=book, **_categories())
    fields = catalogue_form.form_values(request.form)
    try:
        return do(fields)
    except RequestError as refusal:
        errors = catalogue_form.form_errors(refusal)
        fields["key"] = new_id()  # a refused request had no effect: the next submission is a new one
        return render_template(template, fields=fields, errors=errors, book=book, **_categories()), refusal.status


def _done(words: str, book_id: str) -> ResponseReturnValue:
    flash(words)
    return redirect(url_for("pages.catalogue.show", book_id=book_id), 303)


def _book(book_id: str) -> Book:
    return queries.book(book_id if is_storable(book_id, MAX_ID_LENGTH) else "?")


def _categories() -> dict[str, dict[str, str]]:
    return {"categories": {one.id: one.name for one in queries.categories(limit=MAX_CATEGORIES).rows}}
