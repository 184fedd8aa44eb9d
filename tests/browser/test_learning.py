"""Somebody who has never heard of sagas: plays every scenario, and sees both patterns next to each other."""

from playwright.sync_api import Page, expect

from tests.browser.acts import choose
from tests.testkit.shop import Shop
from workflows.scenarios import SAGA_TYPES, SCENARIOS

BOTH = ("order", "order-choreography")


def compared(page: Page) -> list[str]:
    """Return the ids of the two sagas that a page compares, once it does."""
    page.wait_for_url("**/compare/*/*")
    return page.url.split("/")[-2:]


def test_every_scenario_is_a_button_and_ends_as_it_says(page: Page, shop: Shop) -> None:
    played = {}
    for scenario in SCENARIOS:
        page.goto("/learn")
        card = page.locator(f".scenario:has(#about-{scenario.name})")
        card.get_by_role("button", name="Both ways").click()
        played[scenario.name] = compared(page)

    assert set(BOTH) < set(SAGA_TYPES)
    for scenario in SCENARIOS:
        for saga_type, saga_id in zip(BOTH, played[scenario.name], strict=True):
            saga = shop.settle(saga_id)
            states = [reached["state"] for reached in saga["state_history"]]
            assert (saga["saga_type"], saga["status"]) == (saga_type, scenario.ends), scenario.name
            assert states == scenario.states(saga_type), scenario.name


def test_the_same_order_both_ways_is_watched_side_by_side(page: Page, shop: Shop) -> None:
    choose(page, item_001=1)
    page.get_by_label("shipping", exact=True).select_option("decline")

    page.get_by_role("button", name="The same order both ways").click()

    first, second = compared(page)
    page.evaluate("window.watched = true")
    expect(page.get_by_role("heading", name="The same order, both ways")).to_be_visible()
    assert {shop.settle(first)["saga_type"], shop.settle(second)["saga_type"]} == set(BOTH)
    expect(page.locator("#live .now .mark.undone")).to_have_count(2)
    assert page.evaluate("window.watched"), "the page was loaded again"


def test_the_patterns_are_compared_on_the_readers_own_orders(page: Page, shop: Shop) -> None:
    for pattern in ("orchestration", "choreography"):
        shop.settle(shop.order("item-001", pattern=pattern)["saga_id"])

    page.goto("/learn")

    table = page.get_by_role("table", name="Orders that were completed")
    expect(table.get_by_role("row", name="Messages")).to_be_visible()
    expect(table.get_by_role("row", name="Transactions")).to_be_visible()
