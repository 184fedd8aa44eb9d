"""A saga's page follows the saga by itself, and comes back from whatever cuts it off."""

import pytest
from playwright.sync_api import Page, expect

from tests.testkit.browser import CUT_OFF, Server, Visitor, see
from tests.testkit.shop import Shop

OFFLINE = "ERR_INTERNET_DISCONNECTED"
SLOWLY = {"inventory": "undo-fail:5", "shipping": "decline"}
"""Undone only after some seconds of retries."""
STUCK = "Stuck: needs you"


def watch(page: Page, saga_id: str) -> None:
    """Open a saga's page; should it be loaded again, it forgets that it is being watched."""
    page.goto(f"/sagas/{saga_id}")
    page.evaluate("window.watched = true")


def shows(page: Page, word: str) -> None:
    """Wait until the page shows this status, without having been loaded again."""
    see(page, word)
    assert page.evaluate("window.watched"), "the page was loaded again"


def resume(shop: Shop, saga_id: str) -> None:
    answer = shop.post(f"/api/v1/sagas/{saga_id}/resume")
    assert answer.status == 202, answer


@pytest.mark.parametrize(
    ("pattern", "payments", "end"), [("orchestration", "decline", "Compensated"), ("choreography", "fail:1", "Done")]
)
def test_a_saga_is_watched_to_its_end_without_reloading(
    page: Page, shop: Shop, pattern: str, payments: str, end: str
) -> None:
    order = shop.order("item-001", pattern=pattern, simulate={"payments": payments})

    watch(page, order["saga_id"])

    shows(page, end)
    expect(page.get_by_text("Nothing more will change here.")).to_be_visible()
    for event in shop.events(order["order_id"]):
        expect(page.get_by_text(event, exact=True).first).to_be_attached()


def test_updates_wait_while_they_are_paused(page: Page, shop: Shop, stuck: str) -> None:
    watch(page, stuck)
    shows(page, STUCK)

    page.get_by_role("button", name="Pause updates").click()
    resume(shop, stuck)
    shop.wait_for(lambda: shop.saga(stuck)["status"], lambda status: status == "compensated")

    shows(page, STUCK)
    page.get_by_role("button", name="Resume updates").click()
    shows(page, "Compensated")


def test_what_happened_while_offline_is_shown_afterwards(visitor: Visitor, shop: Shop) -> None:
    visitor.expect(OFFLINE)
    visitor.expect(CUT_OFF)
    page = visitor.open(None)
    order = shop.order("item-001", simulate=SLOWLY)
    watch(page, order["saga_id"])

    page.context.set_offline(True)
    shop.settle(order["saga_id"])
    page.context.set_offline(False)

    shows(page, "Compensated")
    for event in shop.events(order["order_id"]):
        expect(page.get_by_text(event, exact=True).first).to_be_attached()


def test_a_killed_server_is_survived(visitor: Visitor, shop: Shop, server: Server, stuck: str) -> None:
    visitor.expect(CUT_OFF)
    page = visitor.open(None)
    watch(page, stuck)
    shows(page, STUCK)
    under_way = shop.order("item-001", simulate=SLOWLY)["saga_id"]

    server.kill()
    try:
        expect(page.get_by_text("Connection lost, reconnecting…")).to_be_visible()
    finally:  # for the other tests too
        server.start()
    resume(shop, stuck)

    shows(page, "Compensated")
    page.goto(f"/sagas/{under_way}")
    see(page, "Compensated")


def test_the_focus_and_what_was_opened_survive_an_update_which_is_told_in_words(
    page: Page, shop: Shop, stuck: str
) -> None:
    watch(page, stuck)
    first_event = page.locator("#event-1")  # what stands above it may come later
    summary = first_event.locator("summary")
    summary.focus()
    page.keyboard.press("Enter")

    resume(shop, stuck)
    shows(page, "Compensated")

    expect(summary).to_be_focused()
    expect(first_event).to_have_attribute("open", "")
    words = page.locator("[data-live-words]")  # what is read out to those who do not see it change
    expect(words).to_have_text("Compensated")
    expect(words).to_have_attribute("role", "status")


def test_without_scripts_the_page_renews_itself(visitor: Visitor, shop: Shop) -> None:
    page = visitor.open(None, java_script_enabled=False)
    order = shop.order("item-001", simulate=SLOWLY)
    page.goto(f"/sagas/{order['saga_id']}")
    expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()

    see(page, "Compensated")
