"""The page of one saga, and the one that compares two."""

import re
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

import pytest
from celery import Task
from celery.exceptions import Retry
from flask import Flask
from flask.testing import FlaskClient

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas.manual_completion import ManualCompletion
from tests.testkit.messages import Clock, Post
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import SEED_ORDER, change_saga, place, reads, text_of, value_after
from web import create_app
from web.pages.saga import live_part

PATTERNS = ["orchestration", "choreography"]
both = pytest.mark.parametrize("pattern", PATTERNS)


def order(client: FlaskClient, pattern: str = "orchestration", **simulate: str) -> str:
    """Place an order; returns its saga's id."""
    return place(client, {**SEED_ORDER, "pattern": pattern, "simulate": simulate})


def page(client: FlaskClient, saga_id: str) -> str:
    answer = client.get(f"/sagas/{saga_id}")
    assert answer.status_code == 200
    return answer.text


def words(html: str) -> str:
    return text_of(html.partition("<main")[2])


ENDS: list[tuple[dict[str, str], list[str]]] = [
    (
        {},
        [
            "✓ Done Everything is done; it took",
            "Money charged 200 refunded 0 net 200 ✓ paid in full",
            "Stock reserved 2 shipped 2 held 0 ✓ all handed over",
            "booked 1 cancelled 0 ✓ one parcel fetched",
        ],
    ),
    (
        {"shipping": "decline"},
        [
            "↶✓ Compensated It could not be completed, so it was compensated",
            "declined, as simulated",
            "charged 200 refunded 200 net 0 ✓ nothing kept",
            "reserved 2 released 2 held 0 ✓ nothing kept",
            "compensation starts",
            "Broken on purpose: shipping: decline",
        ],
    ),
    (
        {"shipping": "decline", "payments": "undo-fail:9"},
        [
            "⚠ Stuck: needs you Stuck for",
            "while compensating process payment: it needs you.",
            "✕ 200 not refunded",
            "7 failed: unavailable, as simulated (7 of 9)",
            "Cancel ✕ it is being compensated already",
        ],
    ),
]


@both
@pytest.mark.parametrize(("simulate", "says"), ENDS, ids=["completed", "compensated", "stuck"])
def test_it_says_how_it_ended_why_and_what_it_kept(
    client: FlaskClient, pattern: str, simulate: dict[str, str], says: list[str]
) -> None:
    saga_id = order(client, pattern, **simulate)

    shown = words(page(client, saga_id))

    assert [one for one in says if one not in shown] == []
    if "payments" in simulate:
        sagas.skip(saga_id, ManualCompletion(by="Ann", note="paid back by bank transfer"))
        shown = words(page(client, saga_id))
        assert "Ann confirmed that it was resolved manually: paid back by bank transfer" in shown
        assert "refunded manually 200 net 0 ✓ nothing kept" in shown
        assert "☞ Resolved manually" in shown


@both
def test_a_retry_says_which_attempt_when_and_why(
    client: FlaskClient, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    def lose(_task: object, **_: object) -> NoReturn:  # run in the caller a retry would be made at once
        raise Retry

    monkeypatch.setattr(Task, "retry", lose)
    saga_id = order(client, pattern, payments="fail:1")
    post.deliver_all()
    due = clock.time + timedelta(seconds=0.2)

    waiting = words(page(client, saga_id))
    clock.forward(1)
    trying = words(page(client, saga_id))

    assert f"Waiting to retry process payment: attempt 2 of 2 at {due:%H:%M:%S}, because: unavailable" in waiting
    assert "◷ Waiting to retry" in waiting
    assert "still pending" in waiting
    assert "Retrying process payment, attempt 2 of 2, because: unavailable" in trying


def test_a_saga_under_way_says_what_it_is_at_and_whom_it_waits_for(client: FlaskClient, post: Post) -> None:
    shown = words(page(client, order(client, "choreography")))
    assert "Waiting for inventory (reserve stock), payments (process payment)." in shown
    assert "○ reserve stock" in shown
    assert "reserve_stock action ▶ Running" in shown
    post.waiting.clear()

    unknown_step = order(client)
    change_saga(unknown_step, steps=["create_order", "wrap_as_a_gift"])  # which no deployed code knows
    assert "wrap as a gift" in words(page(client, unknown_step))
    post.waiting.clear()

    saga_id = order(client)
    assert "○ Pending Accepted; create order is first." in words(page(client, saga_id))
    post.deliver("orders.create_order")
    assert "▶ Running Executing reserve stock." in words(page(client, saga_id))
    sagas.cancel(saga_id)
    assert "↶ Compensating Compensating reserve stock." in words(page(client, saga_id))


SERVICES = ["orders", "inventory", "payments", "shipping", "notifications"]
DRAWN: dict[str, tuple[list[str], list[str], list[str]]] = {
    "orchestration": (
        ["point of no return: only forward", "arrange shipping ✕ Failed", "ship stock ○ Not reached"],
        ["Events and their consumers"],
        [],
    ),
    "choreography": (["1 OrderCreated", "↶✓ refund payment"], ["only forward"], SERVICES),
}


@both
def test_it_is_drawn_as_steps_or_as_what_the_services_said(client: FlaskClient, pattern: str) -> None:
    text = page(client, order(client, pattern, shipping="decline", payments="undo-fail:2"))

    drawn, not_drawn, services = DRAWN[pattern]
    assert [one for one in drawn if one not in words(text)] == []
    assert [one for one in not_drawn if one in words(text)] == []
    assert re.findall(r'class="head"[^>]*>(\w+)<', text) == services
    drawings = re.findall(r'<svg[^>]*role="img" aria-labelledby="([^"]+)"', text)
    assert len(drawings) == 2
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for named in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', text):
        assert set(named.split()) <= set(ids)
    for target in re.findall(r"url\(#([^)]+)\)", text):
        assert target in ids
    assert not re.findall(r"\sstyle=", text)


@both
def test_what_changes_is_one_part_of_few_statements(flask_app: Flask, client: FlaskClient, pattern: str) -> None:
    saga_id = order(client, pattern, shipping="decline", payments="undo-fail:2")

    with flask_app.test_request_context(), reads() as seen:
        part = live_part(saga_id)

    assert len(seen) <= 8, "\n".join(seen)
    whole = page(client, saga_id)
    assert part in whole
    assert f'data-live="/sagas/{saga_id}/live' in whole
    for opened in re.findall(r"<details[^>]*>", part):
        assert " id=" in opened
    assert page(client, saga_id) == whole, "it has ended: it shows the same whenever it is looked at"
    change_saga(saga_id, saga_type="retired")
    assert "↶✓ Compensated" in words(page(client, saga_id)), "no deployed code knows it: it is drawn from its log"


def test_tasks_and_traces_are_linked_where_somebody_shows_them(
    client: FlaskClient, settings: Settings, here: Runtime
) -> None:
    saga_id = order(client, "choreography")
    text = page(client, saga_id)
    assert "/task/" not in text
    assert "/trace/" not in text
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    for flower, jaeger in (("http://flower:5555", "http://jaeger:16686"), ("/tools/flower", "/tools/jaeger")):
        watched = create_app(settings.but(flower_url=f"{flower}/", jaeger_url=jaeger)).test_client()
        text = page(watched, saga_id)
        tasks = re.findall(rf'href="{flower}/task/([^"]+)"', text)
        assert len(tasks) > 6
        assert all(UUID(task) for task in tasks)
        assert (f'href="{jaeger}/trace/{trace_id}"' in text) is flower.startswith("/")  # nothing was traced at first
        change_saga(saga_id, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
        runtime.current().close()


def test_two_sagas_are_compared_by_what_was_done_for_the_order(client: FlaskClient) -> None:
    first, second = (order(client, pattern, shipping="decline") for pattern in PATTERNS)

    answer = client.get(f"/compare/{first}/{second}")

    assert answer.status_code == 200
    shown = words(answer.text)
    assert "The same order, both ways" in shown
    rows = re.findall(r'<th scope="row">([^<]+)</th>', answer.text)
    steps = ("create order", "reserve stock", "process payment", "arrange shipping", "ship stock", "complete order")
    assert rows == [*steps, "in all"]
    assert "payments.refund_payment" in shown
    assert "payments.refund_on_failure" in shown
    assert re.findall(r"· messages: (\d+) · events: (\d+)", shown) == [("10", "7"), ("9", "7")]
    assert shown.count("net 0 ✓ nothing kept") == 2
    ids = re.findall(r'\sid="([^"]+)"', answer.text)
    assert len(ids) == len(set(ids))
    assert "data-poll" not in answer.text


def test_two_sagas_that_move_are_renewed_until_both_have_ended(client: FlaskClient, post: Post) -> None:
    path = "/compare/{}/{}".format(*(order(client, pattern) for pattern in PATTERNS))

    both = client.get(path)

    part = value_after(both, "data-poll=")
    assert 'http-equiv="refresh"' in both.text
    assert "data-live-end" not in client.get(part).text
    post.deliver_all()
    renewed = client.get(part).text
    assert "<html" not in renewed
    assert "data-live-end" in renewed
    assert renewed.count("Everything is done") == 2 * 3  # said, and twice as the description of a drawing
    assert "data-poll=" not in client.get(path).text


def test_different_orders_can_be_compared_and_unknown_ones_neither_shown_nor_compared(client: FlaskClient) -> None:
    first, second = order(client), order(client, payments="decline")

    assert "Two orders side by side" in client.get(f"/compare/{first}/{second}").text
    for path in (
        *(
            f"/compare/{first}/{UNKNOWN_ID}",
            f"/compare/{UNKNOWN_ID}/{first}",
            f"/compare/x/{first}",
            "/compare/x/y/part",
        ),
        *(f"/sagas/{saga_id}" for saga_id in (UNKNOWN_ID, "none", "0")),
    ):
        answer = client.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
        assert "there is no saga" in answer.text
