"""An operator's hand on sagas, in the browser: each act says first what it will do, and is kept with its name."""

import re
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import quote

import pytest

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import Operation
from durable_sagas.models import SagaInstance
from durable_sagas.operations import Operations
from durable_sagas.stuck_groups import error_class
from tests.testkit.client import HTML, PASSWORD, Browser
from tests.testkit.orders import refuse_to_resume
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import (
    SEED_ORDER,
    STUCK,
    PlaceUnsent,
    acts,
    change_saga,
    get,
    hidden,
    lose_messages,
    place,
    status,
    stock,
    text_of,
    value_after,
)
from web.saga_view.manual_completion import consequences
from workflows.orders import SAGAS

ACTS = ("cancel", "resume", "skip")


def test_only_operators_act_and_the_login_leads_back_to_the_act(client: Browser, here: Runtime) -> None:
    here.settings = here.settings.but(operator_password=PASSWORD)
    for path in (*(f"/sagas/{UNKNOWN_ID}/{act}" for act in ACTS), "/stuck/process_payment/resume"):
        for answer in (client.get(path), client.post(path)):
            assert (answer.status_code, answer.headers["Location"]) == (303, f"/operator/login?next={quote(path)}")
    wanted = hidden(client.get(f"/operator/login?next={quote(path)}"), "next")
    form = {"name": "Ann", "password": PASSWORD, "next": wanted}
    assert client.post("/operator/login", data=form).headers["Location"] == path


def test_cancelling_says_what_is_undone_and_does_it(operator: Browser, place_unsent: PlaceUnsent) -> None:
    saga_id = place_unsent(SEED_ORDER)["saga_id"]
    page = f"/sagas/{saga_id}"
    assert f'href="{page}/cancel"' in operator.get(page).text

    review = operator.get(f"{page}/cancel").text

    assert "<code>orders.cancel_order</code>" in review
    assert "What it will not do" in review
    assert status(operator, saga_id) == "pending"
    done = operator.post(f"{page}/cancel")
    assert (done.status_code, done.headers["Location"]) == (303, page)
    shown = [operator.get(page).text for _ in range(2)]
    notice = '<div role="status" class="notice"><p>Cancellation requested: this page shows whether it came in time.'
    assert [notice in one for one in shown] == [True, False]
    assert status(operator, saga_id) == "compensated"
    assert acts(operator, saga_id) == [("cancel", "Ann", None)]


@pytest.mark.parametrize("pattern", ["orchestration", "choreography"])
def test_what_an_operator_asks_for_in_vain_is_not_kept_as_their_act(
    operator: Browser, place_unsent: PlaceUnsent, pattern: str
) -> None:
    placed = [place_unsent({**SEED_ORDER, "pattern": pattern}) for _ in range(2)]
    once, too_late = (str(one["saga_id"]) for one in placed)
    each_its_own = "It publishes the cancellation to the services." in operator.get(f"/sagas/{once}/cancel").text
    assert each_its_own is (pattern == "choreography")
    sagas.cancel(too_late)  # as a customer does

    for saga_id in (once, once, too_late):
        assert operator.post(f"/sagas/{saga_id}/cancel").status_code == 303

    assert status(operator, once) == "compensated"
    assert acts(operator, once) == [("cancel", "Ann", None)]
    assert acts(operator, too_late) == []


def test_resuming_says_where_it_goes_on_and_does_it(operator: Browser, place_unsent: PlaceUnsent) -> None:
    saga_id, under_way = place(operator, STUCK), place_unsent(SEED_ORDER)["saga_id"]
    assert f'href="/sagas/{saga_id}/resume"' in operator.get(f"/sagas/{saga_id}").text

    review = operator.get(f"/sagas/{saga_id}/resume").text

    undone = [review.index(f"<code>{name}</code>") for name in ("payments.refund_payment", "inventory.release_stock")]
    assert undone == sorted(undone)
    assert "It is not stuck, but under way." in operator.get(f"/sagas/{under_way}/resume").text
    for one in (saga_id, under_way):
        assert operator.post(f"/sagas/{one}/resume").status_code == 303
    assert (status(operator, saga_id), status(operator, under_way)) == ("compensated", "completed")
    assert acts(operator, saga_id) == [("resume", "Ann", None)]


SKIPS = {
    "payments": ("process_payment", "The payment provider is not asked"),
    "inventory": ("reserve_stock", "All copies that are still reserved for the order are released here"),
}


@pytest.mark.parametrize("service", SKIPS)
def test_skipping_takes_the_operators_word_and_keeps_it(operator: Browser, service: str) -> None:
    step, consequence = SKIPS[service]
    saga_id = place(operator, {**SEED_ORDER, "simulate": {service: "undo-fail:99", "shipping": "decline"}})
    path = f"/sagas/{saga_id}/skip"

    review = operator.get(path).text
    assert consequence in review
    assert ("is not asked" in review) is (service == "payments")
    assert f'<input type="hidden" name="step" value="{step}">' in review
    for note in ("", "  ", "x" * 5001, "\0"):
        page = operator.post(path, data={"note": note, "step": step})
        assert page.status_code == 422
        assert "Describe what was resolved manually, and why" in page.text
    other = operator.post(path, data={"note": "done", "step": "create_order"})
    assert other.status_code == 409
    assert f"it is stuck on {step}, not on create_order" in other.text
    assert ">done</textarea>" in other.text
    assert (status(operator, saga_id), acts(operator, saga_id)) == ("stuck", [])
    assert operator.post(path, data={"note": " by bank transfer ", "step": step}).status_code == 303

    assert status(operator, saga_id) == "compensated"
    assert acts(operator, saga_id) == [("skip", "Ann", "by bank transfer")]
    assert stock(operator, "product-1")["available_stock"] == 1000
    page = operator.get(f"/sagas/{saga_id}")
    assert "What operators did" in page.text
    assert "by bank transfer" in page.text


def test_it_is_said_of_every_step_what_a_skip_records() -> None:
    compensated = [step for saga in SAGAS.values() for step in saga.steps if step.compensation]
    operations = {(step.name, Operation.COMPENSATION) for step in compensated}
    operations |= {(step.name, Operation.ACTION) for step in compensated if step.action.void}

    for step, operation in operations:
        (consequence,) = consequences(step, [operation])
        assert consequence is not consequences("unknown", [operation])[0], step


def test_of_several_steps_it_has_to_be_said_which(operator: Browser) -> None:
    twice = {"payments": "undo-fail:99", "inventory": "undo-fail:99", "shipping": "decline"}
    saga_id = place(operator, {**SEED_ORDER, "pattern": "choreography", "simulate": twice})
    review = operator.get(f"/sagas/{saga_id}/skip").text
    for step in ("process_payment", "reserve_stock"):
        assert f'type="radio" id="step-{step}" name="step" value="{step}" required' in review

    unsaid = operator.post(f"/sagas/{saga_id}/skip", data={"note": "paid back"})
    assert unsaid.status_code == 422
    assert ">paid back</textarea>" in unsaid.text
    operator.post(f"/sagas/{saga_id}/skip", data={"note": "paid back", "step": "process_payment"})

    assert status(operator, saga_id) == "stuck"
    history = get(operator, f"/api/v1/sagas/{saga_id}/history")["history"]
    assert [step["step_name"] for step in history if step["status"] == "by_hand"] == ["process_payment"]


@pytest.mark.parametrize("act", ACTS)
def test_what_comes_too_late_is_said_on_its_page_and_not_kept(operator: Browser, act: str) -> None:
    saga_id = place(operator, SEED_ORDER)
    assert f"/sagas/{saga_id}/{act}" not in operator.get(f"/sagas/{saga_id}").text
    assert "<button" not in operator.get(f"/sagas/{saga_id}/{act}").text.partition("<main")[2]

    page = operator.post(f"/sagas/{saga_id}/{act}", data={"note": "late", "step": "process_payment"})

    assert (page.status_code, page.mimetype) == (409, "text/html")
    assert "Rejected, nothing was done:" in page.text
    assert acts(operator, saga_id) == []


# ---- sagas that are stuck on the same thing


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
