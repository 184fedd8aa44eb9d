import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import runtime
from app.sagas import sagas as bound
from durable_sagas.definition import SagaStatus
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance
from tests.testkit.web import PlaceUnsent, get, post, text_of
from web.pages.learn import BLURBS, BOTH_WAYS
from workflows import catalogue
from workflows.read_side import comparison
from workflows.read_side.comparison import Summary
from workflows.scenarios import SAGA_TYPES, SCENARIOS

# eager, nothing else runs while a service hangs: so there is no end to wait for
PLAYABLE = [scenario for scenario in SCENARIOS if scenario.name != "hanging"]


def play(client: FlaskClient, name: str, way: str, key: str | None = None) -> TestResponse:
    """Press a scenario's button."""
    return client.post(f"/learn/{name}", data={"way": way, "key": key or new_id()})


def sagas(client: FlaskClient) -> list[dict[str, Any]]:
    return list(get(client, "/api/v1/sagas")["sagas"])


def cards(page: TestResponse) -> list[str]:
    return re.findall(r'<li class="scenario">.*?</li>', page.text, re.DOTALL)


def rows(page: TestResponse, caption: str) -> dict[str, list[str]]:
    """Return the cells of one of the page's tables, by the heading of their row."""
    table = re.search(rf"<caption>{caption}</caption>.*?</table>", page.text, re.DOTALL)
    assert table
    found = re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', table[0], re.DOTALL)
    return {name: [text_of(cell) for cell in re.findall(r"<td.*?</td>", cells, re.DOTALL)] for name, cells in found}


def test_every_scenario_ends_where_its_card_says(client: FlaskClient) -> None:
    for scenario in PLAYABLE:
        response = play(client, scenario.name, "order-payment-first")
        both = play(client, scenario.name, "both")

        found = {saga["saga_type"]: saga for saga in sagas(client)[:3]}
        first, second = (found[saga_type]["saga_id"] for saga_type in BOTH_WAYS)
        of_one = found["order-payment-first"]["saga_id"]
        assert (response.status_code, response.headers["Location"]) == (303, f"/sagas/{of_one}")
        assert (both.status_code, both.headers["Location"]) == (303, f"/compare/{first}/{second}")
        assert set(found) == set(SAGA_TYPES)
        for saga_type, saga in found.items():
            states = [entry["state"] for entry in saga["state_history"]]
            assert (saga["status"], states) == (scenario.ends, scenario.states(saga_type)), scenario.name


def test_a_button_pressed_twice_places_one_order_and_another_button_another(client: FlaskClient) -> None:
    key = new_id()

    first, second = (play(client, "success", "both", key) for _ in range(2))
    play(client, "out-of-stock", "order", key)

    assert first.headers["Location"] == second.headers["Location"]
    assert [saga["status"] for saga in sagas(client)] == ["compensated", "completed", "completed"]
    pages = [client.get("/learn") for _ in range(2)]
    keys = [re.findall(r'name="key" value="([^"]+)"', page.text) for page in pages]
    assert keys[0][0] != keys[1][0], "who comes back to the page gets new buttons"
    assert all(page.cache_control.no_store for page in pages)


def test_what_is_no_button_of_ours_is_refused(client: FlaskClient) -> None:
    assert client.post("/learn/no-such", data={"way": "order", "key": "k"}).status_code == 404
    for form in ({"way": "waltz", "key": "k"}, {"key": "k"}, {"way": "order"}, {"way": "order", "key": "\0"}):
        assert client.post("/learn/success", data=form).status_code == 422
    assert sagas(client) == []


def test_every_scenario_has_a_story_and_buttons_for_each_pattern_and_both(client: FlaskClient) -> None:
    page = client.get("/learn")

    assert list(BLURBS) == [scenario.name for scenario in SCENARIOS]
    for scenario, card in zip(SCENARIOS, cards(page), strict=True):
        assert f'action="/learn/{scenario.name}"' in card
        assert re.findall(r'name="way" value="([^"]+)"', card) == [*BOTH_WAYS, "both"]
        passed = [re.findall(r"<code>(\w+)</code>", states) for states in re.findall(r"<dd>.*?</dd>", card)]
        assert passed == [scenario.states(saga_type) for saga_type in BOTH_WAYS]
    assert "disabled" not in page.text


def test_where_faults_are_off_what_needs_them_is_disabled_and_says_why(strict_client: FlaskClient) -> None:
    for scenario, card in zip(SCENARIOS, cards(strict_client.get("/learn")), strict=True):
        assert card.count(" disabled") == (3 if scenario.breaks else 0)
        assert ("FAULT_INJECTION=1" in card) == bool(scenario.breaks)
    assert play(strict_client, "payment-declined", "order").status_code == 403
    assert sagas(strict_client) == []


def test_what_would_end_otherwise_is_disabled_and_says_why(client: FlaskClient) -> None:
    catalogue.restock("book-456", 1, by="Keeper")
    for _ in range(10):
        post(client, "/api/v1/orders", {"items": [{"book_id": "item-001", "quantity": 100}]})

    shown = dict(zip(BLURBS, cards(client.get("/learn")), strict=True))

    assert "book-456 has come in" in shown["out-of-stock"]
    assert "item-001 is sold out:" in shown["success"]
    enabled = {name for name, card in shown.items() if " disabled" not in card}
    assert enabled == {"payment-declined", "carrier-failure", "refused-amount"}


def paired(ended: SagaStatus, saga_type: str = "order") -> Summary:
    """Return the summary of the orders of one kind that are compared with another."""
    (pairs,) = comparison.compare()[ended]
    return pairs[saga_type]


COSTS = {
    # messages, transactions, retries, actions undone.
    # Six steps, of which inventory fails twice at reserving and at handing over, payments once; the customer is told.
    # Stored, and six steps
    ("retried", "order"): (6 + 5 + 1, 1 + 6, 5, 0),
    # OrderCreated to 2, StockReserved and PaymentCompleted to shipping, ShippingArranged to 2; customer told.
    # Stored and opened, reserved, paid, shipped, handed over, completed
    ("retried", "order-choreography"): (2 + 1 + 1 + 2 + 1 + 5, 6, 5, 0),
    # created, refused; the callback; released (there was nothing), cancelled; the customer is told.
    # Stored, created, refused, cancelled
    ("out-of-stock", "order"): (2 + 1 + 2 + 1, 1 + 3, 0, 1),
    # four, the callback, four; the customer is told
    ("carrier-failure", "order"): (4 + 1 + 4 + 1, 1 + 8, 0, 3),
    # OrderCreated to 2, StockReserved and PaymentCompleted to shipping, ShippingFailed to 2, PaymentRefunded and
    # StockReleased to orders; the customer is told.
    # Stored and opened, reserved, paid, refused, refunded, released, cancelled
    ("carrier-failure", "order-choreography"): (2 + 1 + 1 + 2 + 1 + 1 + 1, 7, 0, 3),
}


@pytest.mark.parametrize("name", ["retried", "out-of-stock", "carrier-failure"])
def test_what_an_order_took_is_counted_in_its_log(client: FlaskClient, name: str) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    play(client, name, "both")

    for (played, saga_type), cost in COSTS.items():
        if played == name:
            took = paired(scenario.ends, saga_type)
            assert (took.messages, took.transactions, took.retries, took.compensated) == cost, saga_type


def test_several_orders_are_means_and_the_time_is_their_median(client: FlaskClient) -> None:
    for name in ("success", "success", "retried", "retried"):
        play(client, name, "both")
    lasted = iter((5, 1, 2, 4))
    with runtime.current().database.transaction() as session:
        for saga in session.query(SagaInstance).where(SagaInstance.saga_type == "order"):
            ended = (saga.created_at + timedelta(seconds=next(lasted))).isoformat()
            saga.state_history = [*saga.state_history[:-1], {"state": "COMPLETED", "at": ended}]

    summary = paired(SagaStatus.COMPLETED)

    assert (summary.orders, summary.messages, summary.retries, summary.seconds) == (4, 9.5, 2.5, 3)


def test_only_the_latest_orders_of_the_same_scenario_are_compared(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(client, "retried", "order")
    for way in ("order", "order", "order-choreography", "order-payment-first"):
        play(client, "success", way)
    play(client, "several-items", "order-choreography")

    found = comparison.compare()[SagaStatus.COMPLETED]
    assert [list(pairs) for pairs in found] == [[one, "order-choreography"] for one in ("order", "order-payment-first")]
    assert [(summary.orders, summary.retries) for summary in found[0].values()] == [(1, 0), (1, 0)]
    monkeypatch.setattr(comparison, "LATEST", 2)
    play(client, "retried", "both")
    for _ in range(2):
        play(client, "success", "both")
    latest = comparison.compare()[SagaStatus.COMPLETED][0].values()
    assert [(summary.orders, summary.retries) for summary in latest] == [(2, 0), (2, 0)]


def test_orders_that_waited_for_people_are_not_compared(client: FlaskClient, place_unsent: PlaceUnsent) -> None:
    play(client, "stuck", "both")
    assert comparison.compare() == {SagaStatus.COMPLETED: [], SagaStatus.COMPENSATED: []}
    for saga in sagas(client):
        post(client, f"/api/v1/sagas/{saga['saga_id']}/resume", None)
    for pattern in ("orchestration", "choreography"):
        order = place_unsent({"items": [{"book_id": "item-001", "quantity": 1}], "pattern": pattern})
        bound.cancel(order["saga_id"])  # as a customer does
    assert {saga["status"] for saga in sagas(client)} == {"compensated"}

    assert comparison.compare()[SagaStatus.COMPENSATED] == []


def test_the_page_shows_the_numbers_of_each_kind(client: FlaskClient) -> None:
    assert "Nothing to compare yet." in client.get("/learn").text
    play(client, "success", "both")
    play(client, "carrier-failure", "both")

    page = client.get("/learn")

    completed, undone = rows(page, "Orders that were completed"), rows(page, "Orders that were compensated")
    assert (completed["Messages"], completed["Transactions"]) == (["7", "7"], ["7", "6"])
    assert "Actions compensated" not in completed
    assert (undone["Messages"], undone["Actions compensated"]) == (["10", "9"], ["3", "3"])
    assert all(re.fullmatch(r"[\d.,]+ (ms|s)", cell) for cell in completed["Time (median)"])
