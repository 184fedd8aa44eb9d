from decimal import Decimal

from flask.testing import FlaskClient

from app import runtime
from tasks.inventory import Book
from tests.testkit.web import fields_of, get, post, stock

PHONE = {"name": "スマートフォン", "description": "最新モデル", "price": 80000, "stock_quantity": 5}
"""The product that seed 000 creates."""


def test_categories_are_listed_page_by_page(client: FlaskClient) -> None:
    made = [post(client, "/api/v1/categories", {"name": name}, 201)["id"] for name in ("one", "two")]

    first = get(client, "/api/v1/categories?limit=2")
    second = get(client, f"/api/v1/categories?limit=2&cursor={first['next_cursor']}")

    listed = first["categories"] + second["categories"]
    assert [category["id"] for category in listed] == [*made, "books"]
    assert listed[0] == {"id": made[0], "name": "one", "description": ""}
    assert second["next_cursor"] is None


def test_a_product_may_have_an_id_of_the_clients_own_once_and_keeps_its_cents(client: FlaskClient) -> None:
    body = {**PHONE, "book_id": "phone-1", "price": 19.99}

    assert post(client, "/api/v1/products", body, 201)["book_id"] == "phone-1"
    assert fields_of(post(client, "/api/v1/products", {**body, "price": 1}, 409)) == ["book_id"]

    assert stock(client, "phone-1")["price"] == 19.99
    with runtime.current().database.reading() as session:
        assert session.get_one(Book, "phone-1").price == Decimal("19.99")


def test_no_more_copies_are_received_than_the_stock_can_hold(client: FlaskClient) -> None:
    with runtime.current().database.transaction() as session:
        book = session.get_one(Book, "book-123")
        book.received_stock = book.available_stock = 2**31 - 2

    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 200)["received_stock"] == 2**31 - 1
    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 409)["errors"][0]["field"] == "quantity"
