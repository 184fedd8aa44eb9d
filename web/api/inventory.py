"""The catalogue and its stock: ``/api/v1/inventory``, ``/api/v1/products``, ``/api/v1/categories``."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from web import cursors, problems
from web.api import responses
from web.api.requests import BookPath, IdempotencyHeader, InventoryQuery, NewCategory, NewProduct, PageQuery, Restock
from web.api.responses import json_response
from web.auth.operators import for_operators, name_of_program
from workflows import catalogue
from workflows.read_side import queries

api = APIBlueprint(
    "inventory",
    __name__,
    url_prefix="/api/v1",
    abp_tags=[Tag(name="Inventory", description="Books, their stock and their categories.")],
)


@api.get("/inventory", responses={200: responses.BooksReply, **problems.responses()})
def list_books(query: InventoryQuery) -> Response:
    """List books with their stock, by book id."""
    page = query.page()
    return json_response(responses.BooksReply.of(books=page.rows, next_cursor=cursors.next_cursor(page)))


@api.get("/inventory/<book_id>", responses={200: responses.BookReply, **problems.responses(404)})
def get_book(path: BookPath) -> Response:
    """Show a book with its stock."""
    return json_response(responses.BookReply.of(queries.book(path.book_id)))


@for_operators(
    api.post, "/inventory/<book_id>/restock", {200: responses.BookReply, **problems.responses(404, 409, 413, 415)}
)
def restock(header: IdempotencyHeader, path: BookPath, body: Restock) -> Response:
    """Take delivery of new copies of a book; repeated requests with the same key are counted once."""
    book = catalogue.restock(path.book_id, body.quantity, by=name_of_program(), key=header.key)
    return json_response(responses.BookReply.of(book))


@for_operators(api.post, "/products", {201: responses.BookReply, **problems.responses(409, 413, 415)})
def add_product(body: NewProduct) -> Response:
    """Put a new book on sale."""
    book = catalogue.add_book(body.to_book())
    return json_response(responses.BookReply.of(book), 201, location=f"/api/v1/inventory/{book.book_id}")


@api.get("/categories", responses={200: responses.CategoriesReply, **problems.responses()})
def list_categories(query: PageQuery) -> Response:
    """List categories, by id."""
    page = queries.categories(after=cursors.text_position(query.cursor), limit=query.limit)
    return json_response(responses.CategoriesReply.of(categories=page.rows, next_cursor=cursors.next_cursor(page)))


@for_operators(api.post, "/categories", {201: responses.CategoryReply, **problems.responses(413, 415)})
def add_category(body: NewCategory) -> Response:
    """Open a new category."""
    return json_response(responses.CategoryReply.of(catalogue.add_category(body.name, body.description)), 201)
