import re

from flask.testing import FlaskClient

from tests.testkit.web import SEED_ORDER, post


def test_the_latest_sagas_are_listed_and_linked(client: FlaskClient) -> None:
    assert "None yet." in client.get("/").text
    placed = [post(client, "/api/v1/orders", {**SEED_ORDER, "order_id": f"order-{n}"}) for n in range(11)]

    page = client.get("/")

    listed = re.findall(r'href="/sagas/([^"]+)">([^<]+)<', page.text)
    assert listed == [(one["saga_id"], one["order_id"]) for one in placed[:0:-1]]
    assert "✓</span> Done" in page.text


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
    for mark in ("✓</span> Done", "✕</span> Failed", "↶✓</span> Compensated"):
        assert mark in page.text
    assert "process_payment: declined, as simulated" in page.text


def test_every_page_stands_on_its_own_and_can_be_read_by_everybody(client: FlaskClient) -> None:
    saga_id = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]
    for path in ("/", "/learn", f"/sagas/{saga_id}", "/nothing"):
        page = client.get(path, headers={"Accept": "text/html"})
        assert page.mimetype == "text/html"
        assert '<html lang="en">' in page.text
        assert 'href="#main">Skip to the content</a>' in page.text
        assert '<main id="main"' in page.text
        assert 'name="viewport"' in page.text
        assert not re.findall(r'<script(?! src="/static/)', page.text)
        assert not re.findall(r'(?:href|src|action)="(?:https?:)?//', page.text)
        inputs = re.findall(r'<(?:input|select)\s(?![^>]*type="hidden")[^>]*id="([^"]+)"', page.text)
        labels = re.findall(r'<label for="([^"]+)"', page.text)
        assert sorted(inputs) == sorted(labels)
    with client.get("/static/base.css") as sheet:
        assert (sheet.status_code, sheet.mimetype) == (200, "text/css")
        assert "http" not in sheet.get_data(as_text=True)


def test_a_page_is_marked_among_those_that_every_page_leads_to(client: FlaskClient) -> None:
    for path in ("/", "/sagas", "/catalogue", "/learn"):
        assert re.findall(r'<a href="([^"]+)" aria-current="page">', client.get(path).text) == [path]
    assert "aria-current" not in client.get("/operator/login").text
