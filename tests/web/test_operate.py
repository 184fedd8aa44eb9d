"""An operator's hand on sagas, in the browser: each act says first what it will do, and is kept with its name."""

from urllib.parse import quote

import pytest
from flask import Flask

from app import runtime
from app.saga import operations
from app.saga.definition import Operation
from app.saga.models import SagaInstance
from tests.testkit.browser import HTML, PASSWORD, Browser
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import SEED_ORDER, PlaceUnsent, get, post, stock
from web.saga_view.manual_completion import consequences
from workflows.orders import SAGAS

STUCK = {**SEED_ORDER, "simulate": {"payments": "undo-fail:7", "shipping": "decline"}}
STUCK_TWICE = {
    **SEED_ORDER,
    "pattern": "choreography",
    "simulate": {"payments": "undo-fail:99", "inventory": "undo-fail:99", "shipping": "decline"},
}
ACTS = ("cancel", "resume", "skip")


def place(client: Browser, order: object) -> str:
    """Place an order; returns its saga's id."""
    return str(post(client, "/api/v1/orders", order)["saga_id"])


def status(client: Browser, saga_id: str) -> str:
    return str(get(client, f"/api/v1/sagas/{saga_id}")["status"])


def acts(client: Browser, saga_id: str) -> list[tuple[str, str, str | None]]:
    told = get(client, f"/api/v1/sagas/{saga_id}/history")["acts"]
    return [(act["act"], act["by"], act["note"]) for act in told]


@pytest.mark.parametrize("path", [*(f"/sagas/{UNKNOWN_ID}/{act}" for act in ACTS), "/stuck/process_payment/resume"])
def test_only_operators_act_and_the_login_leads_back_to_the_act(client: Browser, path: str) -> None:
    for answer in (client.get(path), client.post(path)):
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/operator/login?next={quote(path)}")


def test_a_page_in_between_is_gone_on_to_after_the_login(flask_app: Flask) -> None:
    here = runtime.current()
    here.settings = here.settings.but(operator_password=PASSWORD)
    client = Browser(flask_app)
    wanted = client.get("/stuck/process_payment/resume").headers["Location"]
    assert 'name="next" value="/stuck/process_payment/resume"' in client.get(wanted).text

    form = {"name": "Ann", "password": PASSWORD, "next": "/stuck/process_payment/resume"}
    assert client.post("/operator/login", data=form).headers["Location"] == "/stuck/process_payment/resume"


def test_cancelling_says_what_is_undone_and_does_it(operator: Browser, place_unsent: PlaceUnsent) -> None:
    saga_id = place_unsent(SEED_ORDER)["saga_id"]
    assert f'href="/sagas/{saga_id}/cancel"' in operator.get(f"/sagas/{saga_id}").text

    review = operator.get(f"/sagas/{saga_id}/cancel")

    assert "<code>orders.cancel_order</code>" in review.text
    assert "What it will not do" in review.text
    assert status(operator, saga_id) == "pending"
    done = operator.post(f"/sagas/{saga_id}/cancel")
    assert (done.status_code, done.headers["Location"]) == (303, f"/sagas/{saga_id}")
    page = operator.get(f"/sagas/{saga_id}").text
    assert (
        '<div role="status" class="notice"><p>Cancellation requested: this page says whether it came in time.' in page
    )
    assert "Cancelled: what was" not in operator.get(f"/sagas/{saga_id}").text
    assert status(operator, saga_id) == "compensated"
    assert acts(operator, saga_id) == [("cancel", "Ann", None)]


def test_cancelling_a_choreographed_saga_says_that_each_service_undoes_its_own(
    operator: Browser, place_unsent: PlaceUnsent
) -> None:
    saga_id = place_unsent({**SEED_ORDER, "pattern": "choreography"})["saga_id"]

    assert "It tells the services that this order is cancelled." in operator.get(f"/sagas/{saga_id}/cancel").text
    operator.post(f"/sagas/{saga_id}/cancel")

    assert status(operator, saga_id) == "compensated"


@pytest.mark.parametrize("pattern", ["orchestration", "choreography"])
def test_what_an_operator_asks_for_in_vain_is_not_kept_as_their_act(
    operator: Browser, place_unsent: PlaceUnsent, pattern: str
) -> None:
    placed = [place_unsent({**SEED_ORDER, "pattern": pattern}) for _ in range(2)]
    once, too_late = (str(one["saga_id"]) for one in placed)
    operations.cancel(too_late)  # as a customer does

    for saga_id in (once, once, too_late):
        assert operator.post(f"/sagas/{saga_id}/cancel").status_code == 303

    assert acts(operator, once) == [("cancel", "Ann", None)]
    assert acts(operator, too_late) == []


def test_resuming_says_where_it_goes_on_and_does_it(operator: Browser) -> None:
    saga_id = place(operator, STUCK)
    assert f'href="/sagas/{saga_id}/resume"' in operator.get(f"/sagas/{saga_id}").text

    review = operator.get(f"/sagas/{saga_id}/resume").text

    undone = [review.index(f"<code>{name}</code>") for name in ("payments.refund_payment", "inventory.release_stock")]
    assert undone == sorted(undone)
    assert operator.post(f"/sagas/{saga_id}/resume").status_code == 303
    assert status(operator, saga_id) == "compensated"
    assert stock(operator, "product-1")["available_stock"] == 1000
    assert acts(operator, saga_id) == [("resume", "Ann", None)]


def test_resuming_what_is_under_way_says_that_it_is_not_stuck(operator: Browser, place_unsent: PlaceUnsent) -> None:
    saga_id = place_unsent(SEED_ORDER)["saga_id"]

    assert "It is not stuck, but under way." in operator.get(f"/sagas/{saga_id}/resume").text
    operator.post(f"/sagas/{saga_id}/resume")

    assert status(operator, saga_id) == "completed"


def test_skipping_takes_the_operators_word_and_keeps_it(operator: Browser) -> None:
    saga_id = place(operator, STUCK)

    review = operator.get(f"/sagas/{saga_id}/skip").text
    assert "The payment provider is not asked" in review
    assert '<input type="hidden" name="step" value="process_payment">' in review
    assert "<code>inventory.release_stock</code>" in review
    done = operator.post(f"/sagas/{saga_id}/skip", data={"note": " by bank transfer ", "step": "process_payment"})

    assert done.status_code == 303
    assert status(operator, saga_id) == "compensated"
    assert acts(operator, saga_id) == [("skip", "Ann", "by bank transfer")]
    page = operator.get(f"/sagas/{saga_id}").text
    assert "What operators did" in page
    assert "by bank transfer" in page


def test_the_page_of_a_skip_says_that_stuck_stock_is_really_released(operator: Browser) -> None:
    before = stock(operator, "product-1")["available_stock"]
    saga_id = place(operator, {**SEED_ORDER, "simulate": {"inventory": "undo-fail:99", "shipping": "decline"}})
    assert stock(operator, "product-1")["available_stock"] == before - 2

    review = operator.get(f"/sagas/{saga_id}/skip").text
    assert "All copies that are still reserved for the order are released here" in review
    assert "is not asked" not in review
    operator.post(f"/sagas/{saga_id}/skip", data={"note": "counted", "step": "reserve_stock"})

    assert stock(operator, "product-1")["available_stock"] == before


def test_it_is_said_of_every_step_what_a_skip_records() -> None:
    compensated = [step for saga in SAGAS.values() for step in saga.plan(saga.step_names).steps if step.compensation]
    operations = {(step.name, Operation.COMPENSATION) for step in compensated}
    operations |= {(step.name, Operation.ACTION) for step in compensated if step.action.void}

    for step, operation in operations:
        (consequence,) = consequences(step, [operation])
        assert consequence is not consequences("unknown", [operation])[0], step


@pytest.mark.parametrize("note", ["", "  ", "x" * 5001, "\0"])
def test_skipping_needs_a_reason(operator: Browser, note: str) -> None:
    saga_id = place(operator, STUCK)

    page = operator.post(f"/sagas/{saga_id}/skip", data={"note": note, "step": "process_payment"})

    assert page.status_code == 422
    assert "Say what was done by hand, and why" in page.text
    assert status(operator, saga_id) == "stuck"


def test_of_several_steps_it_has_to_be_said_which(operator: Browser) -> None:
    saga_id = place(operator, STUCK_TWICE)
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


def test_a_word_for_another_step_than_the_one_that_is_stuck_is_refused(operator: Browser) -> None:
    saga_id = place(operator, STUCK)

    page = operator.post(f"/sagas/{saga_id}/skip", data={"note": "done", "step": "reserve_stock"})

    assert page.status_code == 409
    assert "it is stuck on process_payment, not on reserve_stock" in page.text
    assert ">done</textarea>" in page.text
    assert acts(operator, saga_id) == []


@pytest.mark.parametrize("act", ACTS)
def test_what_comes_too_late_is_said_on_its_page_and_not_kept(operator: Browser, act: str) -> None:
    saga_id = place(operator, SEED_ORDER)
    assert f"/sagas/{saga_id}/{act}" not in operator.get(f"/sagas/{saga_id}").text
    assert "<button" not in operator.get(f"/sagas/{saga_id}/{act}").text.partition("<main")[2]

    page = operator.post(f"/sagas/{saga_id}/{act}", data={"note": "late", "step": "process_payment"})

    assert (page.status_code, page.mimetype) == (409, "text/html")
    assert "Refused, nothing was done:" in page.text
    assert acts(operator, saga_id) == []


def test_past_a_choreographys_point_of_no_return_the_page_of_a_cancellation_says_so(operator: Browser) -> None:
    saga_id = place(operator, {**SEED_ORDER, "pattern": "choreography", "simulate": {"orders": "fail:99"}})
    assert status(operator, saga_id) == "stuck"

    page = operator.get(f"/sagas/{saga_id}/cancel").text.partition("<main")[2]

    assert "The carrier is booked: from there on a saga only goes forward" in page
    assert "<button" not in page


def test_a_saga_of_another_version_of_the_code_is_resumed_by_that(operator: Browser) -> None:
    saga_id = place(operator, STUCK)
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).saga_type = "newer"
    path = f"/sagas/{saga_id}/resume"

    assert "This process does not know all steps of this saga" in operator.get(path).text
    assert operator.post(path).status_code == 303

    assert status(operator, saga_id) == "compensating"
    assert acts(operator, saga_id) == [("resume", "Ann", None)]


def test_what_only_the_other_version_can_record_is_not_skipped_here(operator: Browser) -> None:
    saga_id = place(operator, STUCK)
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).saga_type = "newer"
    path = f"/sagas/{saga_id}/skip"

    assert "only a process of the version that knows it can record" in operator.get(path).text
    page = operator.post(path, data={"note": "x", "step": "process_payment"})

    assert page.status_code == 409
    assert "ask one of the version that does" in page.text
    assert status(operator, saga_id) == "stuck"


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("saga_id", ["none", UNKNOWN_ID])
def test_a_saga_that_does_not_exist_cannot_be_acted_on(operator: Browser, act: str, saga_id: str) -> None:
    path = f"/sagas/{saga_id}/{act}"
    assert operator.get(path, headers=HTML).status_code == 404
    assert operator.post(path, data={"note": "x", "step": "y"}, headers=HTML).status_code == 404
