"""An operator's hand on sagas, in the browser: each act says first what it will do, and is kept with its name."""

from urllib.parse import quote

import pytest

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import Operation
from tests.testkit.client import PASSWORD, Browser
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import SEED_ORDER, STUCK, PlaceUnsent, acts, get, hidden, place, status, stock
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
