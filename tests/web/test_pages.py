import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import runtime
from app.ids import new_id
from app.saga.models import SagaInstance
from tests.testkit.web import SEED_ORDER, PlaceUnsent, post


def refreshes(page: TestResponse) -> bool:
    """Tell whether a page renews itself."""
    return 'http-equiv="refresh"' in page.text


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


def test_a_stuck_saga_says_so(client: FlaskClient) -> None:
    broken = {**SEED_ORDER, "simulate": {"inventory": "undo-fail:7", "shipping": "decline"}}
    saga_id = post(client, "/api/v1/orders", broken)["saga_id"]

    page = client.get(f"/sagas/{saga_id}")

    assert "⚠</span> Stuck: needs you" in page.text
    assert not refreshes(page)


def test_a_saga_that_does_not_exist_has_a_page_that_says_so(client: FlaskClient) -> None:
    page = client.get(f"/sagas/{new_id()}", headers={"Accept": "text/html"})

    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "there is no saga" in page.text


def test_a_saga_no_deployed_code_knows_is_shown(client: FlaskClient) -> None:
    saga_id = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).saga_type = "retired"

    assert client.get(f"/sagas/{saga_id}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/learn", "/sagas/{}", "/nothing"])
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
    inputs = re.findall(r'<(?:input|select)\s(?![^>]*type="hidden")[^>]*id="([^"]+)"', page.text)
    labels = re.findall(r'<label for="([^"]+)"', page.text)
    assert sorted(inputs) == sorted(labels)


def test_the_style_sheet_is_served_from_here(client: FlaskClient) -> None:
    with client.get("/static/base.css") as sheet:
        assert (sheet.status_code, sheet.mimetype) == (200, "text/css")
        assert "http" not in sheet.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/sagas", "/catalogue", "/learn"])
def test_a_page_is_marked_among_those_that_every_page_leads_to(client: FlaskClient, path: str) -> None:
    marked = re.findall(r'<a href="([^"]+)" aria-current="page">', client.get(path).text)

    assert marked == [path]
    assert "aria-current" not in client.get("/operator/login").text
