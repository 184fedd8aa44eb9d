"""The catalogue in the browser: open to look at, kept by operators, and nothing counted twice."""

import re
from decimal import Decimal

import pytest
from werkzeug.test import TestResponse

from tests.testkit.browser import HTML, Browser
from tests.testkit.web import SEED_ORDER, get, post, stock
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


def hidden(page: TestResponse, name: str) -> str:
    """Return what a hidden field of a page holds."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found
    return found[1]


def change(client: Browser, **changes: str) -> TestResponse:
    """Open the form of book-123 and send it with changes."""
    page = client.get("/catalogue/books/book-123/change")
    fields = {"name": "クラウド設計パターン集", "description": "", "price": "3500.00", "category_id": "books"}
    return client.post(
        "/catalogue/books/book-123/change", data={**fields, "seen": hidden(page, "seen"), "key": "k", **changes}
    )


def test_everybody_may_look(client: Browser) -> None:
    page = client.get("/catalogue")

    assert "クラウド設計パターン集" in page.text
    assert '<td class="number">3,500</td>' in page.text
    assert "Add a book" not in page.text
    assert "Change…" not in page.text
    book = client.get("/catalogue/books/book-123")
    assert "5 received = 5 in stock + 0 reserved for orders + 0 shipped" in book.text


@pytest.mark.parametrize("path", [*FORMS, "/catalogue/books/book-123/restock"])
def test_only_operators_keep_it(client: Browser, path: str) -> None:
    for answer in (client.get(path), client.post(path)):
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/operator/login?next=/catalogue/")


@pytest.mark.parametrize("path", ["/catalogue/books/none", "/catalogue/books/%00"])
def test_a_book_that_does_not_exist_is_not_found(operator: Browser, path: str) -> None:
    for form in ("", "/change", "/restock"):
        assert operator.get(path + form, headers=HTML).status_code == 404


def test_the_books_are_shown_page_by_page_and_by_category(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages.catalogue.BOOKS_ON_A_PAGE", 4)
    category = catalogue.add_category("Empty", "").id

    first = operator.get("/catalogue?category=books")
    link = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert link
    second = operator.get(link[1].replace("&amp;", "&"))

    books = [re.findall(r'/catalogue/books/([\w-]+)">', page.text) for page in (first, second)]
    assert books == [["book-123", "book-456", "book-789", "book-999999"], ["item-001", "product-1"]]
    assert "There is no book here." in operator.get(f"/catalogue?category={category}").text
    assert operator.get("/catalogue?category=%00").status_code == 200
    assert operator.get("/catalogue?cursor=x", headers=HTML).status_code == 422


def test_a_book_is_put_on_sale_once_however_often_the_form_is_sent(operator: Browser) -> None:
    form = {**BOOK, "key": hidden(operator.get("/catalogue/new/book"), "key")}

    answers = [operator.post("/catalogue/new/book", data=form) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    book = stock(operator, answers[0].headers["Location"].rpartition("/")[2])
    assert (book["title"], book["price"], book["received_stock"], book["category_id"]) == (
        "A new book",
        12.5,
        3,
        "books",
    )
    assert len(get(operator, "/api/v1/inventory")["books"]) == 7


def test_what_was_done_is_said_once(operator: Browser) -> None:
    form = {**BOOK, "key": hidden(operator.get("/catalogue/new/book"), "key")}

    book = operator.post("/catalogue/new/book", data=form).headers["Location"]

    assert '<div role="status" class="notice"><p>A new book is on sale now.' in operator.get(book).text
    assert "A new book is on sale now." not in operator.get(book).text


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", " "),
        ("name", "x" * 501),
        ("name", "\0"),
        ("price", "-1"),
        ("price", "1.001"),
        ("price", "much"),
        ("price", "NaN"),
        ("price", "1e3"),
        ("price", "1_0"),
        ("price", ""),
        ("price", "99999999999"),
        ("stock_quantity", "-1"),
        ("stock_quantity", "1.5"),
        ("stock_quantity", "²"),
        ("stock_quantity", "9" * 5000),
        ("category_id", "none"),
        ("book_id", "a b"),
        ("book_id", "book-123"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_is_kept(
    operator: Browser, field: str, text: str
) -> None:
    form = {**BOOK, "key": hidden(operator.get("/catalogue/new/book"), "key"), field: text}

    page = operator.post("/catalogue/new/book", data=form)

    assert page.status_code in {409, 422}
    assert f'id="{field}-complaint"' in page.text
    assert 'value="3"' in page.text or field == "stock_quantity"
    assert ">Of course</textarea>" in page.text
    assert len(get(operator, "/api/v1/inventory")["books"]) == 6


@pytest.mark.parametrize(
    "path", ["/catalogue/new/book", "/catalogue/new/category", "/catalogue/books/book-123/restock"]
)
@pytest.mark.parametrize("key", ["", "x" * 65, "\0", "a/b"])
def test_a_key_that_is_not_ours_is_refused(operator: Browser, path: str, key: str) -> None:
    page = operator.post(path, data={**BOOK, "quantity": "1", "key": key})

    assert page.status_code == 422
    assert "Nothing was changed." in page.text


def test_a_category_is_opened_once(operator: Browser) -> None:
    form = {"name": "Poems", "description": "", "key": hidden(operator.get("/catalogue/new/category"), "key")}

    answers = [operator.post("/catalogue/new/category", data=form) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [303, 303]
    names = [category["name"] for category in get(operator, "/api/v1/categories")["categories"]]
    assert sorted(names) == ["Books", "Poems"]
    assert '<h2 id="books"><bdi>Poems</bdi></h2>' in operator.get(answers[0].headers["Location"]).text


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
    seen = hidden(operator.get("/catalogue/books/book-123/change"), "seen")
    change(operator, price="3600")

    page = change(operator, price="3700", seen=seen)

    assert page.status_code == 409
    assert "somebody has changed this book meanwhile" in page.text
    assert 'value="3700"' in page.text
    assert stock(operator, "book-123")["price"] == 3600
    assert change(operator, price="3600", seen=seen).status_code == 303  # sent twice


@pytest.mark.parametrize(("field", "text"), [("name", ""), ("price", "x"), ("category_id", "none")])
def test_a_change_that_is_wrong_changes_nothing(operator: Browser, field: str, text: str) -> None:
    page = change(operator, **{"price": "1", field: text})

    assert page.status_code == 422
    assert f'id="{field}-complaint"' in page.text
    assert stock(operator, "book-123")["price"] == 3500


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


@pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "", "many", "1000001"])
def test_a_delivery_of_nothing_sensible_is_refused(operator: Browser, quantity: str) -> None:
    path = "/catalogue/books/book-123/restock"

    page = operator.post(path, data={"quantity": quantity, "key": hidden(operator.get(path), "key")})

    assert page.status_code == 422
    assert 'id="quantity-complaint"' in page.text
    assert stock(operator, "book-123")["received_stock"] == 5


def test_a_delivery_that_is_told_twice_by_the_api_is_counted_once(client: Browser) -> None:
    for _ in range(2):
        answer = client.post(
            "/api/v1/inventory/book-123/restock", json={"quantity": 5}, headers={"Idempotency-Key": "delivery-1"}
        )
        assert (answer.status_code, answer.get_json()["received_stock"]) == (200, 10)
    other = client.post(
        "/api/v1/inventory/book-456/restock", json={"quantity": 5}, headers={"Idempotency-Key": "delivery-1"}
    )
    assert other.status_code == 422
    post(client, "/api/v1/inventory/book-123/restock", {"quantity": 5}, 200)
    assert stock(client, "book-123")["received_stock"] == 15


def test_a_book_of_many_digits_keeps_its_price(operator: Browser) -> None:
    assert change(operator, price="9999999999.99").status_code == 303
    assert Decimal(str(stock(operator, "book-123")["price"])) == Decimal("9999999999.99")
    assert 'value="9999999999.99"' in operator.get("/catalogue/books/book-123/change").text


def test_names_do_not_reorder_the_text_around_them(client: Browser) -> None:
    title = "מסע (2)"
    book = post(client, "/api/v1/products", {"name": title, "price": 10, "stock_quantity": 5}, 201)["book_id"]
    order = {"items": [{"book_id": book, "quantity": 1}]}
    saga_id = post(client, "/api/v1/orders", order)["saga_id"]

    for path in (f"/?copies.{book}=1", "/catalogue", f"/catalogue/books/{book}", f"/sagas/{saga_id}"):
        text = client.get(path).text.partition("<main")[2]
        inline = re.sub(r"<[^>]*>", lambda tag: tag[0] if "bdi" in tag[0] else "", text)
        assert inline.count(f"<bdi>{title}</bdi>") == inline.count(title) > 0, path
