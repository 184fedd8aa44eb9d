"""The pages of all sagas: filters, counts, what needs somebody, and the search by any id."""

import re
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from app import runtime
from app.sagas import sagas
from durable_sagas import recovery
from durable_sagas.definition import SagaStatus
from tests.testkit.messages import Clock
from tests.testkit.web import BROWSES, SEED_ORDER, change_saga, post, text_of, value_after
from workflows.read_side import saga_search

NEWEST = "Back to the newest"


def ask(client: FlaskClient, path: str, **query: str) -> TestResponse:
    return client.get(path, query_string=query or None, headers=BROWSES)


def place(client: FlaskClient, **changes: object) -> dict[str, Any]:
    return post(client, "/api/v1/orders", {**SEED_ORDER, **changes})


def listed(page: TestResponse) -> list[str]:
    """Return the ids of the sagas on a page, in their order."""
    assert page.status_code == 200, page.text
    return re.findall(r'rowheader"><a href="/sagas/([0-9a-f-]{36})"', page.text)


def stick(saga_id: str, reason: str, step: str = "process_payment") -> None:
    change_saga(saga_id, status=SagaStatus.STUCK, current_step=step, stuck_reason=reason)


def test_the_list_shows_what_each_saga_is_and_what_its_trouble_is(client: FlaskClient) -> None:
    empty = ask(client, "/sagas")
    assert listed(empty) == []
    assert "There are no sagas yet. Order a book" in text_of(empty)
    assert "Needs you: nothing" in text_of(empty)
    done = place(client)
    undone = place(client, pattern="choreography", simulate={"payments": "decline"})

    page = ask(client, "/sagas")

    assert listed(page) == [undone["saga_id"], done["saga_id"]]
    said = ("COMPLETED", "customer-123", "Compensated", "declined, as simulated", "orchestration", done["order_id"])
    assert [one for one in said if one not in text_of(page)] == []


FILTERED: list[tuple[dict[str, str], set[int]]] = [
    ({"type": "order-choreography", "status": "completed"}, {0}),
    ({"customer": "guest"}, {3}),
    ({"step": "process_payment", "status": "stuck", "customer_id": "customer-123", "saga_type": "order"}, {2}),
    ({"step": "process_payment", "customer_id": "guest"}, set()),
    ({"status": "", "saga_type": "", "step": "", "customer_id": ""}, {0, 1, 2, 3}),
]


def test_filters_can_be_combined_and_empty_ones_do_not_count_and_the_form_keeps_what_was_chosen(
    client: FlaskClient,
) -> None:
    undone: dict[str, object] = {"pattern": "choreography", "simulate": {"payments": "decline"}}
    orders: list[dict[str, object]] = [{"pattern": "choreography"}, undone, {}, {"customer_id": None}]
    ids = [place(client, **order)["saga_id"] for order in orders]
    stick(ids[2], "no answer")

    for query, wanted in FILTERED:
        assert set(listed(ask(client, "/sagas", **query))) == {ids[number] for number in wanted}, query
        in_the_api = client.get("/api/v1/sagas", query_string={name: text for name, text in query.items() if text})
        assert {saga["saga_id"] for saga in in_the_api.get_json()["sagas"]} == {ids[number] for number in wanted}
    page = ask(client, "/sagas", status="stuck", step="declared_no_more", type="order", customer="some <one>")

    for chosen in ("stuck", "declared_no_more", "order"):
        assert f'<option value="{chosen}" selected>' in page.text
    assert 'value="some &lt;one&gt;"' in page.text
    assert "No saga is like that." in text_of(page)


def test_pages_lead_to_what_is_older_and_back_with_the_same_filters(client: FlaskClient) -> None:
    placed = [place(client)["saga_id"] for _ in range(3)]
    place(client, pattern="choreography")

    first = ask(client, "/sagas", limit="2", type="order")
    second = ask(client, value_after(first, 'rel="next" href='))

    assert listed(first) + listed(second) == placed[::-1]
    assert NEWEST not in first.text
    assert 'rel="next"' not in second.text
    back = re.search(rf'href="([^"]*)">⇤ {NEWEST}', second.text)
    assert back
    assert listed(ask(client, unescape(back[1]))) == listed(first)


def test_what_needs_somebody_is_grouped_by_what_it_is_stuck_on(client: FlaskClient) -> None:
    for reason, step in (("no answer", "process_payment"),) * 2 + (("no room", "reserve_stock"),):
        stick(place(client)["saga_id"], reason, step)

    page = text_of(ask(client, "/sagas"))
    assert "Needs you (3)" in page
    assert page.index("2 sagas are stuck on process_payment") < page.index("1 saga is stuck on reserve_stock")
    assert "no answer" in page
    assert 'href="/stuck/process_payment?error=no+answer"' in ask(client, "/sagas").text
    assert "<html" not in ask(client, "/sagas/incidents").text
    assert "Needs you (3)" in text_of(ask(client, "/sagas/incidents"))
    for letter in "abcde":
        stick(place(client)["saga_id"], f"no answer from {letter}")
    assert "2 more kinds of errors" in text_of(ask(client, "/sagas"))


def test_that_nothing_is_swept_is_said(client: FlaskClient, clock: Clock) -> None:
    assert "Nothing has been swept yet." in text_of(ask(client, "/sagas"))

    sagas.sweep()
    clock.forward(recovery.LATE_SECONDS)
    assert "Nothing has been swept" not in text_of(ask(client, "/sagas"))

    clock.forward(1)
    assert "Nothing has been swept for 61 s." in text_of(ask(client, "/sagas"))
    assert "Nothing has been swept for 61 s." in text_of(ask(client, "/sagas/incidents"))


def test_counts_are_a_part_of_the_page_of_their_own_and_capped(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(saga_search.COUNTED, SagaStatus.COMPLETED, 2)
    place(client)
    place(client)
    place(client, simulate={"payments": "decline"})

    counts = ask(client, "/sagas/counts")

    assert "<html" not in counts.text
    assert text_of(counts) == "○ Pending 0 ▶ Running 0 ✓ Done 2 ↶ Compensating 0 ↶✓ Compensated 1 ⚠ Stuck: needs you 0"
    assert 'data-poll="/sagas/counts" data-every="3"' in ask(client, "/sagas").text
    place(client)
    assert "2 + or more" in text_of(ask(client, "/sagas/counts"))


IDS = """
    SELECT task_id FROM saga_steps WHERE saga_id = :saga_id AND task_id IS NOT NULL
    UNION SELECT id FROM events WHERE aggregate_id = :order_id
    UNION SELECT id FROM payments WHERE order_id = :order_id
    UNION SELECT transaction_id FROM payments WHERE order_id = :order_id
    UNION SELECT id FROM shipments WHERE order_id = :order_id
    UNION SELECT tracking_number FROM shipments WHERE order_id = :order_id
"""


def test_an_id_leads_straight_to_its_saga(client: FlaskClient) -> None:
    place(client, customer_id="guest")
    placed = place(client, order_id="my-own-1")
    with runtime.current().database.reading() as session:
        ids = [str(one) for one in session.scalars(text(IDS), placed)]
    assert len(ids) > 14

    of_saga = placed["saga_id"]
    for sought in (*ids, of_saga, of_saga.upper(), f"  {of_saga}\n", "my-own-1", "customer-123"):
        page = ask(client, "/sagas/find", q=sought)
        assert (page.status_code, page.headers.get("Location")) == (303, f"/sagas/{of_saga}"), sought
    for query in ({}, {"q": ""}, {"q": "  "}):
        page = ask(client, "/sagas/find", **query)
        assert (page.status_code, page.headers["Location"]) == (303, "/sagas")


def test_an_id_of_several_sagas_lists_them_and_one_of_nothing_says_so_and_what_can_be_searched(
    client: FlaskClient,
) -> None:
    placed = [place(client)["saga_id"] for _ in range(2)]
    place(client, customer_id="guest")

    page = ask(client, "/sagas/find", q="customer-123")

    assert listed(page) == placed[::-1]
    assert "2 sagas have to do with “customer-123”" in text_of(page)
    for sought in ("nothing", "x" * 200, "%", "' OR 1=1 --", "<b>", "{0}", "%(id)s", "単語"):
        page = ask(client, "/sagas/find", q=sought)
        assert page.status_code == 404
        assert f"Nothing has the id “{sought}”" in unescape(text_of(page))
        assert "tracking number" in text_of(page)
