"""Sagas that are stuck on the same thing: grouped, shown, resumed together, and followed until they have ended."""

import re
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import quote

import pytest

from app.sagas import sagas
from durable_sagas.models import SagaInstance
from durable_sagas.operations import Operations
from durable_sagas.stuck_groups import error_class
from tests.testkit.client import HTML, Browser
from tests.testkit.orders import refuse_to_resume
from tests.testkit.web import STUCK, acts, change_saga, get, hidden, lose_messages, place, status, text_of, value_after

SOME_ID = "01a22ca9-306b-7765-9f08-25cc0cb7501f"

Stick = Callable[[str, str], str]


@pytest.fixture
def stuck_on_refund(operator: Browser) -> Stick:
    """Place an order that is stuck on its refund for some reason, at some step; returns its saga's id."""

    def stick(reason: str, step: str) -> str:
        saga_id = place(operator, STUCK)
        change_saga(saga_id, stuck_reason=reason, current_step=step)
        return saga_id

    return stick


def test_errors_of_one_class_differ_in_numbers_ids_and_values_only() -> None:
    for reason, named in (
        ("payments.refund_payment: unavailable, as simulated (7 of 9)", "unavailable, as simulated (… of …)"),
        ("process_payment: ConnectionError: 10.0.0.7:443 refused", "ConnectionError"),
        (f"orders.cancel_order: order {SOME_ID} is completed, not pending", "order … is completed, not pending"),
        ("payments.refund_payment: no account 'AB-1' in \"EU\"", "no account … in …"),
        ("the gateway did not answer within 2.5 s", "the gateway did not answer within … s"),
        (None, ""),
    ):
        assert error_class(reason, "process_payment") == named


def test_the_buttons_of_a_group_act_on_what_the_group_shows(operator: Browser, stuck_on_refund: Stick) -> None:
    same = [stuck_on_refund(f"payments.refund_payment: busy ({number} of 9)", "process_payment") for number in (7, 8)]
    stuck_on_refund("payments.refund_payment: closed for the day", "process_payment")
    stuck_on_refund("inventory.release_stock: busy (7 of 9)", "reserve_stock")
    shown = text_of(operator.get("/sagas"))
    assert "2 sagas are stuck on process_payment" in shown
    assert "with errors of one kind, such as payments.refund_payment: busy (" in shown

    links = re.findall(r'href="(/stuck/process_payment[^"]+)"', operator.get("/sagas").text)
    group, resume = (
        next(link for link in links if "busy" in link and ("/resume" in link) is resumes) for resumes in (False, True)
    )
    assert set(re.findall(r"/sagas/([0-9a-f-]{36})", operator.get(group).text)) == set(same)
    review = operator.get(resume)
    assert "2 sagas are stuck on this step with this error." in text_of(review)
    operator.post(resume, data={"until": hidden(review, "until")})

    assert [saga["saga_id"] for saga in get(operator, "/api/v1/sagas?status=compensated")["sagas"]] == same[::-1]


def test_what_gets_stuck_after_the_page_was_shown_is_left_alone(operator: Browser, stuck_on_refund: Stick) -> None:
    stuck_on_refund("busy", "process_payment")
    path = "/stuck/process_payment/resume?error=busy"
    shown = hidden(operator.get(path), "until")
    later = stuck_on_refund("busy", "process_payment")
    for no_moment in ("", "yesterday", "2026-01-01T00:00:00"):
        assert operator.post(path, data={"until": no_moment}, headers=HTML).status_code == 422
    assert len(get(operator, "/api/v1/sagas?status=stuck")["sagas"]) == 2

    operator.post(path, data={"until": shown})

    assert status(operator, later) == "stuck"
    assert len(get(operator, "/api/v1/sagas?status=compensated")["sagas"]) == 1


def test_the_result_follows_what_was_resumed(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    for_good = {**STUCK, "simulate": {"payments": "undo-fail:99", "shipping": "decline"}}
    stuck = [place(operator, STUCK), place(operator, for_good)]
    with monkeypatch.context() as stopped:
        lose_messages(stopped)
        result = operator.post("/stuck/process_payment/resume").headers["Location"]

    page = operator.get(result)
    assert "✓ Ended: done or compensated 0 ▶ Under way 2 ⚠ Stuck again 0" in text_of(page)
    assert "No saga is stuck" not in page.text
    part = value_after(page, "data-poll=")

    for saga_id in stuck:
        sagas.resume(saga_id)

    ended = operator.get(part)
    assert "✓ Ended: done or compensated 1 ▶ Under way 0 ⚠ Stuck again 1" in text_of(ended)
    assert "data-live-end" in ended.text
    assert f"/sagas/{stuck[1]}" in ended.text
    assert "data-poll" not in operator.get(result).text


def test_a_group_of_which_only_some_were_looked_at_says_that_all_are_resumed(
    operator: Browser, stuck_on_refund: Stick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.read_side.saga_search.SAMPLE_SIZE", 2)
    older = stuck_on_refund("closed", "process_payment")
    sagas = [stuck_on_refund("busy", "process_payment") for _ in range(3)]
    path = "/stuck/process_payment/resume"

    for group in (path, "/stuck/process_payment"):  # that only older sagas have an error is not: it is away
        shown = text_of(operator.get(f"{group}?error=closed"))
        assert "None of the examined ones has this error." in shown
        assert "No saga is stuck" not in shown
    page = operator.get(f"{path}?error=busy")
    shown = text_of(page)
    assert "only the newest 2 were examined. The button also resumes the older ones that have this error." in shown
    assert "At least: 2 sagas are stuck on this step with this error." in shown
    assert "Resume all with this error" in shown
    assert "Resume all 2" not in shown
    operator.post(f"{path}?error=busy", data={"until": hidden(page, "until")})
    assert [status(operator, saga_id) for saga_id in (older, *sagas)] == ["stuck", *["compensated"] * 3]


def test_of_two_who_resume_all_at_once_only_one_resumes_each(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = place(operator, STUCK)
    lose_messages(monkeypatch)
    ask = sagas.operations._with_driver

    def be_second(*given: Any) -> SagaInstance:
        monkeypatch.setattr(sagas.operations, "_with_driver", ask)
        sagas.resume_stuck("process_payment", by="Bob")
        return ask(*given)

    monkeypatch.setattr(sagas.operations, "_with_driver", be_second)
    assert operator.post("/stuck/process_payment/resume").status_code == 303

    assert acts(operator, saga_id) == [("resume_stuck", "Bob", None)]


def test_all_that_are_stuck_on_a_step_are_counted_and_resumed(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.pages.stuck.BULK_SECONDS", inf)  # however slow the machine is
    monkeypatch.setattr(Operations.resume_stuck, "__kwdefaults__", {"by": None, "after": None, "limit": 2})
    sagas = [place(operator, STUCK) for _ in range(5)]
    refuse_to_resume(sagas[1], monkeypatch)
    path = "/stuck/process_payment/resume"
    assert "5 sagas are stuck on this step." in operator.get(path).text

    done = operator.post(path)

    assert done.status_code == 303
    page = operator.get(done.headers["Location"]).text
    assert "4 sagas were resumed." in page
    assert f"{sagas[1]}: not this one" in page
    assert "1 saga is stuck on this step." in operator.get(path).text
    assert [status(operator, saga_id) for saga_id in sagas] == ["compensated", "stuck", *["compensated"] * 3]
    assert acts(operator, sagas[0]) == [("resume_stuck", "Ann", None)]
    assert acts(operator, sagas[1]) == []


def test_where_nothing_is_stuck_there_is_nothing_to_press(operator: Browser) -> None:
    for step in ("nothing", "単語", "<b>"):
        page = operator.get(f"/stuck/{quote(step)}/resume")
        assert page.status_code == 200
        assert "No saga is stuck on this step." in page.text
        assert "<b>" not in page.text
        assert operator.post(f"/stuck/{quote(step)}/resume").status_code == 303
    assert "No saga is stuck on this step with this error." in operator.get("/stuck/nothing?error=<b>").text
    for path in ("%00/resume", "x" * 65 + "/resume", f"resumed/{SOME_ID}/x?by=Ann", f"resumed/{SOME_ID}/{SOME_ID}"):
        assert operator.get(f"/stuck/{path}", headers=HTML).status_code == 404
