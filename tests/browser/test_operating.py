"""An operator's day: logging in, mending what is stuck, and nobody doing it in their place."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.acts import log_in, see
from tests.browser.pages import Scene
from tests.browser.server import PASSWORD
from tests.browser.visitor import Visitor
from tests.testkit.shop import Shop

EVE = {"name": "Eve", "password": "guess"}
HANGING = {"payments": "hang"}
"""Under way until a deadline, so that there is time to cancel it."""


def test_what_is_stuck_is_found_and_resumed_by_whoever_logs_in(page: Page, scene: Scene, shop: Shop) -> None:
    order_id = shop.saga(scene.to_resume)["order_id"]
    page.goto("/sagas")
    expect(page.get_by_role("heading", name="Needs you (")).to_be_visible()

    page.locator(".incidents [href*=reserve_stock]").first.click()
    page.get_by_role("link", name=order_id).click()
    see(page, "Stuck: needs you")
    page.get_by_role("link", name="Resume …").click()
    log_in(page, "Ann")
    expect(page.get_by_text("It goes on undoing where it stands.")).to_be_visible()
    page.get_by_role("button", name="Resume it").click()

    expect(page.get_by_text("Resumed: it goes on where it stood.")).to_be_visible()
    see(page, "Undone")
    expect(page.get_by_role("row", name="Ann Resumed it")).to_be_visible()


def test_what_was_undone_by_hand_is_skipped_with_a_reason(operator: Page, scene: Scene) -> None:
    operator.goto(f"/sagas/{scene.to_skip}")
    see(operator, "Stuck: needs you")

    operator.get_by_role("link", name="Skip …").click()
    go_on = operator.get_by_role("button", name="It was done by hand: go on")
    go_on.click()
    expect(go_on).to_be_visible()  # not without a reason
    operator.get_by_label("What was done by hand, and why").fill("Paid back by bank transfer")
    go_on.click()

    see(operator, "Undone")
    expect(operator.get_by_role("row", name="Paid back by bank transfer").first).to_be_visible()
    expect(operator.get_by_text("given back by hand")).to_be_visible()


def test_all_that_are_stuck_on_a_step_are_resumed_at_once(operator: Page, scene: Scene) -> None:
    operator.goto("/stuck/create_order/resume")
    expect(operator.get_by_text("2 sagas are stuck on this step.")).to_be_visible()

    operator.get_by_role("button", name="Resume all 2").click()

    expect(operator.get_by_text("2 sagas were resumed.")).to_be_visible()
    for saga_id in scene.to_resume_together:
        operator.goto(f"/sagas/{saga_id}")
        see(operator, "Undone")


def test_an_order_under_way_is_cancelled(operator: Page, shop: Shop) -> None:
    order = shop.order("item-001", simulate=HANGING)
    operator.goto(f"/sagas/{order['saga_id']}")

    operator.get_by_role("link", name="Cancel …").click()
    operator.get_by_role("button", name="Cancel it, undo what was done").click()

    see(operator, "Undone")
    expect(operator.get_by_text("Cancelled it")).to_be_visible()


def test_what_cannot_be_done_says_why(operator: Page, scene: Scene) -> None:
    operator.goto(f"/sagas/{scene.completed}/cancel")

    expect(operator.get_by_text("It is completed: there is nothing left to cancel.")).to_be_visible()
    expect(operator.locator("main").get_by_role("button")).to_have_count(0)


def forget(page: Page) -> None:
    """Take the tokens out of a page's forms."""
    page.evaluate("document.querySelectorAll('[name=csrf_token]').forEach((field) => field.remove())")


def forge(page: Page) -> None:
    """Put others into the place of a page's tokens."""
    page.evaluate("document.querySelectorAll('[name=csrf_token]').forEach((field) => { field.value = 'forged' })")


@pytest.mark.parametrize("spoil", [forget, forge])
def test_a_form_without_its_token_does_nothing(
    visitor: Visitor, operator: Page, shop: Shop, scene: Scene, spoil: Callable[[Page], Any]
) -> None:
    visitor.expect("status of 400")
    operator.goto(f"/sagas/{scene.stuck}/resume")
    spoil(operator)

    operator.get_by_role("button", name="Resume it").click()

    expect(operator.get_by_role("heading", name="This page was too old")).to_be_visible()
    assert shop.saga(scene.stuck)["status"] == "stuck"


def test_an_order_whose_token_was_lost_can_be_sent_once_more(visitor: Visitor, page: Page, shop: Shop) -> None:
    visitor.expect("status of 400")
    page.goto("/")
    forget(page)

    page.get_by_role("button", name="Place the order").click()
    expect(page.get_by_text("Nothing was done.")).to_be_visible()
    page.get_by_role("button", name="Send it once more").click()

    page.wait_for_url("**/sagas/*")
    see(page, "Done")


def test_whoever_logs_out_is_an_operator_no_more(page: Page, scene: Scene) -> None:
    page.goto("/operator/login")
    log_in(page, "Ben")
    expect(page.get_by_text("Operator: Ben")).to_be_visible()

    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_role("link", name="Operator login")).to_be_visible()
    page.goto(f"/sagas/{scene.stuck}/resume")
    expect(page.get_by_label("Password of the operators")).to_be_visible()


def guess_until_refused(page: Page) -> None:
    """Guess without waiting for pages, until the form of this page will be refused for most of another minute."""
    token = page.locator("[name=csrf_token]").first.input_value()
    while True:
        answer = page.request.post(
            "/operator/login", form={"csrf_token": token, **EVE}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        assert answer.status in {403, 429}
        wait = int(answer.headers.get("retry-after", 0))
        if wait > 45:
            return
        time.sleep(wait)


# the last one: for a minute nobody can log in from this machine
def test_passwords_cannot_be_guessed(visitor: Visitor, operator_session: object, page: Page) -> None:
    visitor.expect("status of (403|429)")
    page.goto("/operator/login")
    log_in(page, "Eve", "guess")
    expect(page.get_by_text("This is not the password.")).to_be_visible()
    guess_until_refused(page)

    log_in(page, "Eve", PASSWORD)

    expect(page.get_by_text("Too many wrong passwords were tried.")).to_be_visible()
    expect(page.get_by_role("link", name="Operator login")).to_be_visible()
