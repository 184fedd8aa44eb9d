import re
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from durable_sagas.ids import new_id
from tests.testkit.web import SEED_ORDER, get, hidden, text_of
from web.fields import MAX_PATH_LENGTH
from web.forms.order_form import OrderForm
from web.pages.shop import BOOKS_PER_PAGE
from workflows import catalogue
from workflows.catalogue import NewBook

SERVICES = ("orders", "inventory", "payments", "shipping")

FORM = {
    "copies.book-123": "2",
    "copies.book-789": "0",
    "customer_id": "customer-001",
    "payment_method": "e_money",
    "saga_type": "order",
    "shipping_address": "",
    **{f"break.{service}": "" for service in SERVICES},
}


def entered(page: TestResponse) -> dict[str, str]:
    """Return what the fields of a page's order form hold."""
    holds = {}
    for tag in re.findall(r"<input [^>]*>", page.text):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if attributes.get("type") != "radio" or " checked" in tag:
            holds[attributes["name"]] = unescape(attributes["value"])
    for name, options in re.findall(r'<select id="[^"]+" name="([^"]+)"(.*?)</select>', page.text, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        holds[name] = unescape(chosen[1]) if chosen else ""
    return holds


def basket(page: TestResponse) -> dict[str, str]:
    """Return the books of which copies are wanted, on this page of the catalogue or not."""
    fields = {name.removeprefix("copies."): text for name, text in entered(page).items() if name.startswith("copies.")}
    return {book_id: text for book_id, text in fields.items() if text != "0"}


def listed(page: TestResponse) -> list[str]:
    """Return the books of this page of the catalogue."""
    return re.findall(r"<code>([^<]+)</code>", page.text.partition("Also in your basket")[0])


def orders(client: FlaskClient) -> list[dict[str, Any]]:
    """Return all orders, newest first."""
    return list(get(client, "/api/v1/orders")["orders"])


def newest_saga(client: FlaskClient) -> dict[str, Any]:
    return dict(get(client, "/api/v1/sagas")["sagas"][0])


def new_form(client: FlaskClient, **changes: str) -> dict[str, str]:
    """Open the form and fill it in; after the back button a browser has the same key."""
    return {**FORM, "key": hidden(client.get("/"), "key"), **changes}


def send(client: FlaskClient, **changes: str) -> TestResponse:
    """Open the form, fill it in and send it."""
    return client.post("/place", data=new_form(client, **changes))


def add_books(count: int, category_id: str | None = None) -> list[str]:
    """Put books on sale that come after all others in the catalogue; returns their ids."""
    ids = [f"z-{number:03}" for number in range(count)]
    for book_id in ids:
        title = f"Volume {book_id}"
        catalogue.add_book(NewBook(title, "", Decimal(10), category_id, stock=5, book_id=book_id))
    return ids


def test_the_form_offers_every_book_with_price_stock_and_category(client: FlaskClient) -> None:
    catalogue.add_book(NewBook("A book", "", Decimal("12.50"), None, stock=5, book_id="a-book"))

    page = client.get("/", query_string={"copies.a-book": "3", "copies.book-123": "0"})

    assert (page.status_code, page.mimetype) == (200, "text/html")
    cheap, first, second, *others = map(text_of, re.findall(r'<li class="book.*?</li>', page.text, re.DOTALL))
    assert len(others) == 4
    for said in ("クラウド設計パターン集", "Books", "book-123", " 3,500", "5 in stock"):
        assert said in first
    assert "0 in stock" in second
    assert '<option value="customer-001">田中太郎</option>' in page.text
    assert " 12.50" in cheap
    assert "<output>37.50</output>" in page.text


def test_a_new_form_chooses_a_book_in_stock_and_can_be_sent_as_it_is(client: FlaskClient) -> None:
    page = client.get("/")
    assert basket(page) == {"book-123": "1"}

    assert client.post("/place", data=entered(page)).status_code == 303

    (order,) = orders(client)
    assert (order["customer_id"], order["status"], order["total_amount"]) == ("guest", "completed", 3500)
    send(client, **{"copies.book-123": "4"})
    assert basket(client.get("/")) == {"book-789": "1"}


@pytest.mark.parametrize("saga_type", ["order", "order-payment-first", "order-choreography"])
def test_the_form_leads_to_the_saga_it_names_for_an_order_of_several_books(client: FlaskClient, saga_type: str) -> None:
    response = send(client, saga_type=saga_type, **{"copies.book-789": "3", "copies.product-1": "1"})

    (order,) = orders(client)
    assert (response.status_code, response.headers["Location"]) == (303, f"/sagas/{order['saga_id']}")
    assert newest_saga(client)["saga_type"] == saga_type
    assert (order["customer_id"], order["payment_method"]) == ("customer-001", "e_money")
    assert order["shipping_address"] == "to be collected at the shop"
    items = {item["book_id"]: item["quantity"] for item in order["items"]}
    assert items == {"book-123": 2, "book-789": 3, "product-1": 1}
    assert order["total_amount"] == 2 * 3500 + 3 * 2800 + 100


# ---- what is broken on purpose


def test_every_fault_that_is_offered_reaches_its_service(client: FlaskClient, no_messages: None) -> None:
    page = client.get("/")
    offered = [
        (service, fault)
        for service in SERVICES
        for options in re.findall(rf'<select id="break.{service}".*?</select>', page.text, re.DOTALL)
        for fault in re.findall(r'value="([^"]+)"', options)
    ]
    assert len(offered) == 26
    assert "Break something" in page.text

    for service, fault in offered:
        assert send(client, **{f"break.{service}": fault}).status_code == 303
        assert newest_saga(client)["context"]["simulate"] == {service: fault}
    send(client, **{"break.shipping": "decline", "break.payments": "undo-fail:9"})
    assert newest_saga(client)["context"]["simulate"] == {"payments": "undo-fail:9", "shipping": "decline"}


def test_what_is_said_to_fail_and_then_work_works(client: FlaskClient) -> None:
    page = client.get("/").text
    for service in SERVICES:
        found = re.search(rf'<select id="break.{service}".*?value="(fail:\d)">fails, then succeeds', page, re.S)
        assert found
        send(client, **{f"break.{service}": found[1], "copies.book-123": "1"})
        assert newest_saga(client)["status"] == "completed", service


# ---- both ways, and twice


@pytest.mark.parametrize("chosen", ["order", "order-payment-first", "order-choreography"])
def test_the_same_order_both_ways_is_two_orders_next_to_each_other(client: FlaskClient, chosen: str) -> None:
    response = send(client, way="both", saga_type=chosen, **{"copies.product-1": "3", "break.payments": "decline"})

    orchestrated, choreographed = sorted(orders(client), key=lambda order: order["saga_type"] == "order-choreography")
    assert choreographed["saga_type"] == "order-choreography"
    assert orchestrated["saga_type"] == ("order" if chosen == "order-choreography" else chosen)
    assert choreographed["items"] == orchestrated["items"]
    leads_to = f"/compare/{orchestrated['saga_id']}/{choreographed['saga_id']}"
    assert (response.status_code, response.headers["Location"]) == (303, leads_to)
    for saga in get(client, "/api/v1/sagas")["sagas"]:
        assert saga["context"]["simulate"] == {"payments": "decline"}


def test_a_form_sent_twice_is_one_order_or_pair_and_a_changed_one_is_another(client: FlaskClient) -> None:
    form = new_form(client)
    assert form["key"] != new_form(client)["key"]

    for way, placed in ((form, 1), ({**form, "way": "both"}, 3)):
        first, second = (client.post("/place", data=way) for _ in range(2))
        assert (first.status_code, first.headers["Location"]) == (303, second.headers["Location"])
        assert len(orders(client)) == placed
        pages = [client.get(first.headers["Location"]).text for _ in range(2)]
        assert ["no new order was placed" in page for page in pages] == [True, False]
    for changes in ({"copies.book-123": "1"}, {"saga_type": "order-choreography"}):
        assert client.post("/place", data={**form, **changes}).status_code == 303
    assert len(orders(client)) == 5


def test_both_ways_places_nothing_if_one_is_refused(client: FlaskClient) -> None:
    page = send(client, way="both", **{"break.orders": "decline"})

    assert page.status_code == 422
    assert 'id="break.orders-error"' in page.text
    assert "so orders cannot decline it" in page.text
    assert orders(client) == []


def test_if_only_one_of_both_could_be_placed_it_is_said_and_linked(client: FlaskClient) -> None:
    form = new_form(client, way="both")
    # another order has taken the second order's key
    taken = f"{OrderForm.read(FORM).idempotency_key(form['key'])}:orchestration"
    client.post("/api/v1/orders", json=SEED_ORDER, headers={"Idempotency-Key": taken})

    page = client.post("/place", data=form)

    assert page.status_code == 422
    assert "Only one of the two orders was placed." in page.text
    choreographed = next(order for order in orders(client) if order["saga_type"] == "order-choreography")
    assert f'<a href="/sagas/{choreographed["saga_id"]}">See the order that was placed</a>' in page.text
    assert len(orders(client)) == 2


# ---- what is refused


WRONG = {
    "copies.book-789": ["1001", "-1", "many", "²", "9" * 5000],
    "copies.": ["1"],
    "customer_id": ["nobody", "x" * 65],
    "payment_method": ["cash"],
    "saga_type": ["waltz"],
    "shipping_address": ["x" * 501],
    "break.payments": ["sulk"],
    "break.orders": ["timeout"],
}


@pytest.mark.parametrize("field", WRONG)
def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_is_kept(client: FlaskClient, field: str) -> None:
    for value in WRONG[field]:
        page = send(client, **{field: value})
        assert page.status_code == 422
        name = re.escape(field)
        assert re.search(rf'name="{name}"[^>]*aria-invalid="true" aria-describedby="{name}-error"', page.text)
        assert len(re.findall(r'class="field-error"', page.text)) == 1
        for marked in (f'id="{field}-error"', f'<a href="#{field}">', f' id="{field}"'):
            assert marked in page.text
        wanted = {name: text for name, text in {**FORM, field: value}.items() if text != "0"}
        holds = entered(page)
        lost = {name: text for name, text in wanted.items() if holds.get(name) != text}
        # what is none of the choices cannot be shown among them
        assert not lost or (set(lost) == {field} and field in {"payment_method", "saga_type"})
    assert orders(client) == []


def test_an_order_of_nothing_of_too_much_or_without_a_key_of_ours_is_refused(client: FlaskClient) -> None:
    too_much = {f"copies.no-{number}": "1" for number in range(200)}
    for books in ({"copies.book-123": "0"}, {"copies.book-123": " "}, too_much):
        page = send(client, **books)
        assert page.status_code == 422
        assert 'id="basket-error"' in page.text
    for key in ("", "x" * 201, "\0"):
        page = send(client, key=key)
        assert page.status_code == 422
        assert "lost its key" in page.text
    unreadable = {"copies.\0": "1", "copies.book-123": "1", "q": "\0", "customer_id": "\0"}
    for form in ({}, unreadable, {"after": "no cursor"}):
        page = client.post("/place", data={"key": new_id(), **form})
        assert page.status_code == 422
        assert "The order was not placed." in page.text
    assert orders(client) == []


def test_what_people_wrote_is_shown_as_text(client: FlaskClient) -> None:
    book = catalogue.add_book(NewBook("<script>alert(1)</script>", "", Decimal(1), category_id=None, stock=1))

    page = send(client, **{"copies.book-123": "0", "shipping_address": '"><b>', 'copies."><i>': "1", "q": "<u>"})

    assert book.title in unescape(client.get("/").text)
    for text in (page.text, client.get("/").text):
        assert "<script>" not in text
        assert not re.search(r"<[biu]>", text)


# ---- a catalogue of many books


def test_books_are_found_and_the_basket_is_kept(client: FlaskClient) -> None:
    category = catalogue.add_category("Poems", "")
    add_books(12, category.id)
    kept = {name: FORM[name] for name in ("customer_id", "payment_method", "saga_type")}
    kept |= {"shipping_address": "東京 1-2", "break.payments": "decline"}
    searches: list[tuple[dict[str, str], list[str]]] = [
        ({"q": "volume z-00"}, [f"z-{number:03}" for number in range(10)]),
        ({"q": "z-007"}, ["z-007"]),
        ({"q": "100%"}, []),
        ({"q": "パターン"}, ["book-123"]),
        ({"q": "z-01", "category": "books"}, []),
        ({"q": "z-01", "category": category.id}, ["z-010", "z-011"]),
    ]

    for looked_for, found in searches:
        response = client.post("/basket", data={**FORM, **kept, "copies.product-1": "3", **looked_for})
        assert response.status_code == 303
        page = client.get(response.headers["Location"])
        assert listed(page) == found
        assert basket(page) == {"book-123": "2", "product-1": "3"}
        assert (kept | looked_for).items() <= entered(page).items()
    assert "Poems" in page.text


def test_a_long_catalogue_has_pages_and_the_basket_goes_along(client: FlaskClient) -> None:
    add_books(30)
    first = client.get("/")
    assert len(listed(first)) == BOOKS_PER_PAGE
    cursor = re.search(r'name="after" value="([^"]+)"', first.text)
    assert cursor

    page = client.get(client.post("/basket", data={**entered(first), "after": cursor[1]}).headers["Location"])

    assert listed(page) == [f"z-{number:03}" for number in range(14, 30)]
    assert basket(page) == {"book-123": "1"}
    assert 'name="after"' not in page.text
    assert client.post("/place", data={**entered(page), "copies.z-029": "1"}).status_code == 303
    assert {item["book_id"] for item in orders(client)[0]["items"]} == {"book-123", "z-029"}


def test_a_basket_too_large_for_an_address_is_kept_all_the_same(client: FlaskClient) -> None:
    books = add_books(90)
    fields = {**FORM, **{f"copies.{book_id}": "1" for book_id in books}, "shipping_address": "x" * MAX_PATH_LENGTH}

    page = client.post("/basket", data=fields)

    assert page.status_code == 200
    assert basket(page) == {"book-123": "2", **dict.fromkeys(books, "1")}
