"""The catalogue in the browser and by the API: open to look at, kept by operators, and nothing counted twice."""

import re

import pytest
from werkzeug.test import TestResponse

from app import runtime
from tasks.inventory import Book
from tests.testkit.client import HTML, Browser
from tests.testkit.web import SEED_ORDER, fields_of, get, hidden, post, stock, value_after
from workflows import catalogue
from workflows.operations.audit import audit

FORMS = ("/catalogue/new/book", "/catalogue/new/category", "/catalogue/books/book-123/change")
BOOK = {
    "name": "A new book",
    "description": "Of course",
    "price": "12.50",
    "stock_quantity": "3",
    "category_id": "books",
}


def change(client: Browser, **changes: str) -> TestResponse:
    """Open the form of book-123 and send it with changes."""
    page = client.get("/catalogue/books/book-123/change")
    fields = {"name": "クラウド設計パターン集", "description": "", "price": "3500.00", "category_id": "books"}
    return client.post(
        "/catalogue/books/book-123/change", data={**fields, "etag": hidden(page, "etag"), "key": "k", **changes}
    )


def test_everybody_may_look_and_only_operators_keep_it(client: Browser) -> None:
    page = client.get("/catalogue")

    assert "クラウド設計パターン集" in page.text
    assert '<td class="number">3,500</td>' in page.text
    assert "Add a book" not in page.text
    assert "Change…" not in page.text
    book = client.get("/catalogue/books/book-123")
    assert "5 received = 5 in stock + 0 reserved for orders + 0 shipped" in book.text
    for path in (*FORMS, "/catalogue/books/book-123/restock"):
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 303
            assert answer.headers["Location"].startswith("/operator/login?next=/catalogue/")


def test_the_books_are_shown_page_by_page_and_by_category(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages.catalogue.BOOKS_ON_A_PAGE", 4)
    category = catalogue.add_category("Empty", "").id

    first = operator.get("/catalogue?category=books")
    second = operator.get(value_after(first, 'rel="next" href='))

    books = [re.findall(r'/catalogue/books/([\w-]+)">', page.text) for page in (first, second)]
    assert books == [["book-123", "book-456", "book-789", "book-999999"], ["item-001", "product-1"]]
    assert "There is no book here." in operator.get(f"/catalogue?category={category}").text
    assert operator.get("/catalogue?category=%00").status_code == 200
    assert operator.get("/catalogue?cursor=x", headers=HTML).status_code == 422


def test_a_book_or_category_is_added_once_however_often_the_form_is_sent(operator: Browser) -> None:
    for thing, form, said in (
        ("book", BOOK, "A new book is on sale now."),
        ("category", {"name": "Poems", "description": ""}, "Poems</bdi></h2>"),
    ):
        path = f"/catalogue/new/{thing}"
        form = {**form, "key": hidden(operator.get(path), "key")}
        answers = [operator.post(path, data=form) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 303]
        leads_to = answers[0].headers["Location"]
        assert leads_to == answers[1].headers["Location"]
        assert said in operator.get(leads_to).text
        if thing == "book":
            book = stock(operator, leads_to.rpartition("/")[2])
            assert (book["title"], book["price"]) == ("A new book", 12.5)
            assert (book["received_stock"], book["category_id"]) == (3, "books")
            assert said not in operator.get(leads_to).text, "what was done is said once"
    assert len(get(operator, "/api/v1/inventory")["books"]) == 7
    names = [category["name"] for category in get(operator, "/api/v1/categories")["categories"]]
    assert sorted(names) == ["Books", "Poems"]


WRONG = {
    "name": [" ", "x" * 501, "\0"],
    "price": ["-1", "1.001", "much", "NaN", "1e3", "1_0", "", "99999999999"],
    "stock_quantity": ["-1", "1.5", "²", "9" * 5000],
    "category_id": ["none"],
    "book_id": ["a b", "book-123"],
}


def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_is_kept(operator: Browser) -> None:
    for field, texts in WRONG.items():
        for text in texts:
            form = {**BOOK, "key": hidden(operator.get("/catalogue/new/book"), "key"), field: text}
            page = operator.post("/catalogue/new/book", data=form)
            assert page.status_code in {409, 422}
            assert f'id="{field}-error"' in page.text
            assert 'value="3"' in page.text or field == "stock_quantity"
            assert ">Of course</textarea>" in page.text
    restock = "/catalogue/books/book-123/restock"
    for quantity in ("0", "-1", "1.5", "", "many", "1000001"):
        page = operator.post(restock, data={"quantity": quantity, "key": hidden(operator.get(restock), "key")})
        assert page.status_code == 422
        assert 'id="quantity-error"' in page.text
    for path in ("/catalogue/new/book", "/catalogue/new/category", restock):
        for no_key in ("", "x" * 65, "\0", "a/b"):
            page = operator.post(path, data={**BOOK, "quantity": "1", "key": no_key})
            assert page.status_code == 422
            assert "Nothing was changed." in page.text
    assert len(get(operator, "/api/v1/inventory")["books"]) == 6
    assert stock(operator, "book-123")["received_stock"] == 5


def test_changing_a_book_leaves_the_orders_that_were_placed_alone(operator: Browser) -> None:
    order = {**SEED_ORDER, "items": [{"book_id": "book-123", "quantity": 1}]}
    placed = post(operator, "/api/v1/orders", order)["order_id"]

    done = change(operator, name="Another title", price="4000", category_id="")

    assert (done.status_code, done.headers["Location"]) == (303, "/catalogue/books/book-123")
    book = stock(operator, "book-123")
    assert (book["title"], book["price"], book["category_id"]) == ("Another title", 4000, None)
    assert (book["received_stock"], book["available_stock"]) == (5, 4)
    kept = get(operator, f"/api/v1/orders/{placed}")
    assert (kept["total_amount"], kept["items"][0]["unit_price"]) == (3500, 3500)
    assert kept["items"][0]["title"] == "クラウド設計パターン集"
    assert list(audit()) == []


def test_a_change_over_somebody_elses_is_refused_and_keeps_what_was_entered(operator: Browser) -> None:
    etag = hidden(operator.get("/catalogue/books/book-123/change"), "etag")
    change(operator, price="3600")

    page = change(operator, price="3700", etag=etag)

    assert page.status_code == 409
    assert "the book was changed in the meantime" in page.text
    assert 'value="3700"' in page.text
    assert stock(operator, "book-123")["price"] == 3600
    assert change(operator, price="3600", etag=etag).status_code == 303  # sent twice


def test_a_delivery_is_counted_once_and_kept_with_a_name(operator: Browser) -> None:
    path = "/catalogue/books/book-123/restock"
    form = {"quantity": "7", "key": hidden(operator.get(path), "key")}

    answers = [operator.post(path, data=form) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [303, 303]
    book = stock(operator, "book-123")
    assert (book["received_stock"], book["available_stock"], book["reserved_stock"]) == (12, 12, 0)
    page = operator.get("/catalogue/books/book-123").text
    assert page.count("<td><bdi>Ann</bdi></td>") == 1
    assert list(audit()) == []
    changed = operator.post(path, data={**form, "quantity": "8"})
    assert changed.status_code == 422
    assert "the key was used before" in changed.text
    again = operator.post(path, data={"quantity": "8", "key": hidden(changed, "key")})
    assert again.status_code == 303
    assert stock(operator, "book-123")["received_stock"] == 20


def test_a_delivery_that_is_told_twice_by_the_api_is_counted_once(client: Browser) -> None:
    known = {"Idempotency-Key": "delivery-1"}
    restock = "/api/v1/inventory/{}/restock".format
    answers = [client.post(restock("book-123"), json={"quantity": 5}, headers=known) for _ in range(2)]
    other = client.post(restock("book-456"), json={"quantity": 5}, headers=known)

    assert [(answer.status_code, answer.get_json()["received_stock"]) for answer in answers] == [(200, 10)] * 2
    assert other.status_code == 422
    assert post(client, restock("book-123"), {"quantity": 5}, 200)["received_stock"] == 15


def test_names_do_not_reorder_the_text_around_them(client: Browser) -> None:
    title = "מסע (2)"
    book = post(client, "/api/v1/products", {"name": title, "price": 10, "stock_quantity": 5}, 201)["book_id"]
    order = {"items": [{"book_id": book, "quantity": 1}]}
    saga_id = post(client, "/api/v1/orders", order)["saga_id"]

    for path in (f"/?copies.{book}=1", "/catalogue", f"/catalogue/books/{book}", f"/sagas/{saga_id}"):
        text = client.get(path).text.partition("<main")[2]
        inline = re.sub(r"<[^>]*>", lambda tag: tag[0] if "bdi" in tag[0] else "", text)
        assert inline.count(f"<bdi>{title}</bdi>") == inline.count(title) > 0, path


def test_a_product_may_have_an_id_of_the_clients_own_once_and_keeps_its_cents(client: Browser) -> None:
    body = {"name": "スマートフォン", "stock_quantity": 5, "book_id": "phone-1", "price": 19.99}

    assert post(client, "/api/v1/products", body, 201)["book_id"] == "phone-1"
    assert fields_of(post(client, "/api/v1/products", {**body, "price": 1}, 409)) == ["book_id"]

    assert stock(client, "phone-1")["price"] == 19.99
    with runtime.current().database.reading() as session:
        assert str(session.get_one(Book, "phone-1").price) == "19.99"


def test_no_more_copies_are_received_than_the_stock_can_hold(client: Browser) -> None:
    with runtime.current().database.transaction() as session:
        book = session.get_one(Book, "book-123")
        book.received_stock = book.available_stock = 2**31 - 2

    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 200)["received_stock"] == 2**31 - 1
    assert post(client, "/api/v1/inventory/book-123/restock", {"quantity": 1}, 409)["errors"][0]["field"] == "quantity"
