from decimal import Decimal

from flask.testing import FlaskClient

from app import runtime
from tasks.inventory import Book
from tests.testkit.web import fields_of, get, post, stock

PHONE = {"name": "スマートフォン", "description": "最新モデル", "price": 80000, "stock_quantity": 5}
"""The product that seed 000 creates."""


def test_a_book_is_shown_with_its_stock(client: FlaskClient) -> None:
    assert stock(client, "book-123") == {
        "book_id": "book-123",
        "title": "クラウド設計パターン集",
        "description": "",
        "category_id": "books",
        "price": 3500,
        "received_stock": 5,
        "available_stock": 5,
        "reserved_stock": 0,
    }


def test_a_book_that_does_not_exist_is_not_found(client: FlaskClient) -> None:
    assert get(client, "/api/v1/inventory/none", 404)["detail"] == "there is no book none"
    assert post(client, "/api/v1/inventory/none/restock", {"quantity": 1}, 404)["status"] == 404


def test_seed_000s_category_and_product_can_be_made_and_ordered(client: FlaskClient) -> None:
    category = post(client, "/api/v1/categories", {"name": "電子機器", "description": "電子機器カテゴリ"}, 201)
    response = client.post("/api/v1/products", json={**PHONE, "category_id": category["id"]})

    assert response.status_code == 201
    phone = response.get_json()
    assert response.headers["Location"] == f"/api/v1/inventory/{phone['book_id']}"
    assert (phone["title"], phone["price"], phone["available_stock"]) == ("スマートフォン", 80000, 5)
    assert [book["book_id"] for book in get(client, f"/api/v1/inventory?category_id={category['id']}")["books"]] == [
        phone["book_id"]
    ]

    order = {"customer_id": "user-123", "items": [{"product_id": phone["book_id"], "quantity": 2, "price": 80000}]}
    placed = post(client, "/api/v1/orders", order)
    assert get(client, f"/api/v1/orders/{placed['order_id']}")["total_amount"] == 160000
    assert stock(client, phone["book_id"])["available_stock"] == 3


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


def test_new_copies_are_for_sale_at_once(client: FlaskClient) -> None:
    response = client.post("/api/v1/inventory/book-456/restock", json={"quantity": 3})

    assert response.status_code == 200
    shown = response.get_json()
    assert (shown["received_stock"], shown["available_stock"], shown["reserved_stock"]) == (3, 3, 0)
    assert stock(client, "book-456") == shown


def test_no_more_copies_are_received_than_the_stock_can_hold(client: FlaskClient) -> None:
    with runtime.current().database.transaction() as session:
        book = session.get_one(Book, "book-123")
        book.received_stock = book.available_stock = 2**31 - 2

    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 200)["received_stock"] == 2**31 - 1
    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 409)["errors"][0]["field"] == "quantity"
