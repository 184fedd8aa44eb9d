import re
from decimal import Decimal
from html import unescape

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import runtime
from app.ids import new_id
from app.saga.models import SagaInstance
from tests.web.conftest import SEED_ORDER, PlaceUnsent, get, post, stock
from workflows import catalogue

FORM = {
    "book_id": "book-123",
    "quantity": "2",
    "customer_id": "customer-001",
    "payment_method": "e_money",
    "saga_type": "order",
    "shipping_address": "",
    "service": "",
    "fault": "decline",
}


def key_of(page: TestResponse) -> str:
    """Return the key in a page's order form."""
    found = re.search(r'name="key" value="([^"]+)"', page.text)
    assert found
    return found[1]


def chosen(page: TestResponse, field: str) -> str | None:
    """Return the chosen option of one of a form's selects."""
    select = re.search(rf'<select id="{field}".*?</select>', page.text, re.DOTALL)
    assert select
    option = re.search(r'value="([^"]*)" selected', select[0])
    return option[1] if option else None


def orders(client: FlaskClient) -> int:
    """Return how many orders there are."""
    return len(get(client, "/api/v1/orders")["orders"])


def place(client: FlaskClient, **changes: str) -> TestResponse:
    """Open the form, fill it in and send it."""
    return client.post("/place", data={**FORM, "key": key_of(client.get("/")), **changes})


def refreshes(page: TestResponse) -> bool:
    """Tell whether a page renews itself."""
    return 'http-equiv="refresh"' in page.text


def test_the_form_offers_every_book_with_price_and_stock(client: FlaskClient) -> None:
    page = client.get("/")

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "クラウド設計パターン集 · 3,500.00 · 5 in stock" in page.text
    assert "限定版アートブック · 8,000.00 · 0 in stock" in page.text
    assert "田中太郎" in page.text
    for name in ("order", "order-payment-first", "order-choreography"):
        assert f'<option value="{name}"' in page.text


def test_the_form_leads_to_the_saga_of_the_order(client: FlaskClient) -> None:
    response = place(client)

    assert response.status_code == 303
    page = client.get(response.headers["Location"])
    assert page.status_code == 200
    order = get(client, "/api/v1/orders")["orders"][0]
    assert response.headers["Location"] == f"/sagas/{order['saga_id']}"
    assert (order["customer_id"], order["payment_method"], order["total_amount"]) == ("customer-001", "e_money", 7000)
    assert order["shipping_address"] == "to be collected at the shop"


@pytest.mark.parametrize("saga_type", ["order", "order-payment-first", "order-choreography"])
def test_the_form_starts_the_saga_it_names(client: FlaskClient, saga_type: str) -> None:
    place(client, saga_type=saga_type)

    assert get(client, "/api/v1/sagas")["sagas"][0]["saga_type"] == saga_type


def test_the_form_breaks_what_it_names(client: FlaskClient) -> None:
    response = place(client, service="payments", fault="decline")

    page = client.get(response.headers["Location"])
    assert "declined, as simulated" in page.text
    assert get(client, "/api/v1/sagas")["sagas"][0]["context"]["simulate"] == {"payments": "decline"}


def test_a_form_sent_twice_is_one_order(client: FlaskClient) -> None:
    form = {**FORM, "key": key_of(client.get("/"))}

    first, second = (client.post("/place", data=form) for _ in range(2))

    assert (first.status_code, second.status_code) == (303, 303)
    assert first.headers["Location"] == second.headers["Location"]
    assert orders(client) == 1


def test_every_form_has_a_key_of_its_own(client: FlaskClient) -> None:
    assert key_of(client.get("/")) != key_of(client.get("/"))


def test_a_form_changed_and_sent_again_says_so_and_can_be_sent_once_more(client: FlaskClient) -> None:
    key = key_of(client.get("/"))
    client.post("/place", data={**FORM, "key": key})

    page = client.post("/place", data={**FORM, "quantity": "1", "key": key})

    assert page.status_code == 422
    assert "An order was placed with this form already." in page.text
    assert client.post("/place", data={**FORM, "quantity": "1", "key": key_of(page)}).status_code == 303
    assert orders(client) == 2


@pytest.mark.parametrize("key", ["", "x" * 201, "\0"])
def test_a_form_with_a_key_that_is_not_ours_is_refused(client: FlaskClient, key: str) -> None:
    page = place(client, key=key)

    assert page.status_code == 422
    assert "The order was not placed." in page.text
    assert orders(client) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", "0"),
        ("quantity", "1001"),
        ("quantity", "many"),
        ("quantity", ""),
        ("quantity", "²"),
        ("quantity", "9" * 5000),
        ("book_id", "no-such"),
        ("book_id", ""),
        ("customer_id", "nobody"),
        ("payment_method", "cash"),
        ("saga_type", "waltz"),
        ("shipping_address", "x" * 501),
        ("shipping_address", "\0"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_is_kept(
    client: FlaskClient, field: str, value: str
) -> None:
    page = place(client, **{"quantity": "3", field: value})

    assert page.status_code == 422
    assert f'id="{field}-complaint"' in page.text
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true" aria-describedby="{field}-complaint"', page.text)
    assert len(re.findall(r'class="complaint"', page.text)) == 1
    if field != "quantity":
        assert 'value="3"' in page.text
    if field not in {"customer_id", "saga_type", "book_id"}:
        assert (chosen(page, "customer_id"), chosen(page, "saga_type")) == ("customer-001", "order")
        assert chosen(page, "book_id") == "book-123"
    assert orders(client) == 0


def test_a_fault_that_does_not_fit_its_service_is_said_at_the_fault(client: FlaskClient) -> None:
    page = place(client, service="orders", fault="timeout")

    assert page.status_code == 422
    assert "orders calls no gateway that could time out" in page.text
    assert 'id="fault-complaint"' in page.text
    assert (chosen(page, "service"), chosen(page, "fault")) == ("orders", "timeout")


def test_an_empty_form_is_refused_and_shown_again(client: FlaskClient) -> None:
    page = client.post("/place", data={"key": new_id()})

    assert page.status_code == 422
    assert "The order was not placed." in page.text


def test_nothing_can_be_broken_where_faults_are_switched_off(strict_client: FlaskClient) -> None:
    assert "What to break" not in strict_client.get("/").text

    page = place(strict_client, service="payments")

    assert page.status_code == 403
    assert "faults cannot be simulated here" in page.text
    assert orders(strict_client) == 0


def test_what_to_break_is_offered_where_faults_are_allowed(client: FlaskClient) -> None:
    assert "What to break" in client.get("/").text


def test_the_latest_sagas_are_listed_and_linked(client: FlaskClient) -> None:
    assert "None yet." in client.get("/").text
    placed = [post(client, "/api/v1/orders", {**SEED_ORDER, "order_id": f"order-{n}"}) for n in range(11)]

    page = client.get("/")

    listed = re.findall(r'href="/sagas/([^"]+)">([^<]+)<', page.text)
    assert listed == [(one["saga_id"], one["order_id"]) for one in placed[:0:-1]]
    assert "✓</span> Done" in page.text


def test_what_people_wrote_is_shown_as_text(client: FlaskClient) -> None:
    book = catalogue.add_book(
        title="<script>alert(1)</script>", description="", price=Decimal(1), category_id=None, stock=1
    )

    page = place(client, quantity="0", shipping_address='"><b>')

    assert book.title in unescape(page.text)
    assert "<script>" not in page.text
    assert '"><b>' not in page.text


def test_a_saga_shows_its_states_steps_and_events(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"payments": "decline"}})

    page = client.get(f"/sagas/{placed['saga_id']}")

    states = re.findall(r"<li>(\w+)</li>", page.text)
    assert states == ["STARTED", "ORDER_CREATED", "STOCK_RESERVED", "COMPENSATION_STARTED", "FAILED"]
    rows = re.findall(r'<th scope="row">(\w+)</th>\s*<td>(\w+)</td>', page.text)
    assert rows[:6] == [
        ("create_order", "action"),
        ("reserve_stock", "action"),
        ("process_payment", "action"),
        ("process_payment", "compensation"),
        ("reserve_stock", "compensation"),
        ("create_order", "compensation"),
    ]
    assert rows[6:9] == [("1", "OrderCreated"), ("2", "StockReserved"), ("3", "PaymentFailed")]
    for mark in ("✓</span> Done", "✕</span> Failed", "↶✓</span> Undone"):
        assert mark in page.text
    assert "process_payment: declined, as simulated" in page.text


def test_the_page_of_a_saga_renews_itself_only_while_it_is_unfinished(
    client: FlaskClient, place_unsent: PlaceUnsent
) -> None:
    finished = post(client, "/api/v1/orders", SEED_ORDER)
    waiting = place_unsent(SEED_ORDER)

    assert not refreshes(client.get(f"/sagas/{finished['saga_id']}"))
    page = client.get(f"/sagas/{waiting['saga_id']}")
    assert refreshes(page)
    assert "○</span> Pending" in page.text
    assert not refreshes(client.get("/"))


def test_a_saga_under_way_can_be_cancelled_from_its_page(client: FlaskClient, place_unsent: PlaceUnsent) -> None:
    saga_id = place_unsent(SEED_ORDER)["saga_id"]
    page = client.get(f"/sagas/{saga_id}")
    assert f'action="/sagas/{saga_id}/cancel"' in page.text
    assert "/resume" not in page.text

    response = client.post(f"/sagas/{saga_id}/cancel")

    assert (response.status_code, response.headers["Location"]) == (303, f"/sagas/{saga_id}")
    assert "cancelled on request" in client.get(f"/sagas/{saga_id}").text
    assert get(client, f"/api/v1/sagas/{saga_id}")["status"] == "compensated"


def test_a_stuck_saga_says_so_and_can_be_resumed_from_its_page(client: FlaskClient) -> None:
    broken = {**SEED_ORDER, "simulate": {"inventory": "undo-fail:7", "shipping": "decline"}}
    saga_id = post(client, "/api/v1/orders", broken)["saga_id"]
    page = client.get(f"/sagas/{saga_id}")
    assert "⚠</span> Stuck: needs you" in page.text
    assert f'action="/sagas/{saga_id}/resume"' in page.text
    assert "/cancel" not in page.text
    assert not refreshes(page)

    response = client.post(f"/sagas/{saga_id}/resume")

    assert (response.status_code, response.headers["Location"]) == (303, f"/sagas/{saga_id}")
    assert get(client, f"/api/v1/sagas/{saga_id}")["status"] == "compensated"
    assert stock(client, "product-1")["available_stock"] == 1000


@pytest.mark.parametrize("request_", ["cancel", "resume"])
def test_what_comes_too_late_is_said_on_the_page(client: FlaskClient, request_: str) -> None:
    saga_id = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]
    assert f"/sagas/{saga_id}/{request_}" not in client.get(f"/sagas/{saga_id}").text

    page = client.post(f"/sagas/{saga_id}/{request_}")

    assert (page.status_code, page.mimetype) == (409, "text/html")
    assert "<strong>Refused:</strong>" in page.text


def test_a_saga_that_does_not_exist_has_a_page_that_says_so(client: FlaskClient) -> None:
    page = client.get(f"/sagas/{new_id()}", headers={"Accept": "text/html"})

    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "there is no saga" in page.text
    assert client.post("/sagas/none/cancel").status_code == 404


def test_a_saga_no_deployed_code_knows_is_shown(client: FlaskClient) -> None:
    saga_id = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).saga_type = "retired"

    assert client.get(f"/sagas/{saga_id}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/sagas/{}", "/nothing"])
def test_every_page_stands_on_its_own_and_can_be_read_by_everybody(client: FlaskClient, path: str) -> None:
    saga_id = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]

    page = client.get(path.format(saga_id), headers={"Accept": "text/html"})

    assert page.mimetype == "text/html"
    assert '<html lang="en">' in page.text
    assert 'href="#main">Skip to the content</a>' in page.text
    assert '<main id="main"' in page.text
    assert 'name="viewport"' in page.text
    assert not re.findall(r'<script(?! src="/static/)', page.text)
    assert not re.findall(r'(?:href|src|action)="(?:https?:)?//', page.text)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    inputs = re.findall(r'<(?:input|select)\s(?![^>]*type="hidden")[^>]*id="(\w+)"', page.text)
    labels = re.findall(r'<label for="(\w+)"', page.text)
    assert sorted(inputs) == sorted(labels)


def test_the_style_sheet_is_served_from_here(client: FlaskClient) -> None:
    with client.get("/static/base.css") as sheet:
        assert (sheet.status_code, sheet.mimetype) == (200, "text/css")
        assert "http" not in sheet.get_data(as_text=True)
