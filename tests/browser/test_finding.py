"""All sagas: counted, filtered, searched, and read page by page."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import Scene
from tests.testkit.shop import Shop


def test_the_counts_follow_by_themselves(page: Page, shop: Shop) -> None:
    page.goto("/sagas")
    done = page.locator(".counts .count:has(.mark.done) dd")
    before = int(done.inner_text())

    shop.settle(shop.order("item-001")["saga_id"])

    expect(done).not_to_have_text(str(before))
    assert int(done.inner_text()) > before


def test_filters_show_only_what_is_wanted(page: Page, scene: Scene, shop: Shop) -> None:
    page.goto("/sagas")
    page.get_by_label("Status").select_option("compensated")
    page.get_by_label("Saga type").select_option("order-choreography")
    page.get_by_role("button", name="Show", exact=True).click()

    table = page.get_by_role("table")
    expect(table.get_by_role("link", name=shop.saga(scene.undone_choreographed)["order_id"])).to_be_visible()
    expect(table.get_by_role("link", name=shop.saga(scene.undone)["order_id"])).to_have_count(0)
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_label("Status")).to_have_value("")


def test_pages_lead_to_older_sagas_and_back(page: Page, scene: Scene) -> None:
    page.goto("/sagas?limit=2")
    newest = page.locator("table.sagas tbody a").first.inner_text()

    page.get_by_role("link", name="Older →").click()
    expect(page.locator("table.sagas tbody a").first).not_to_have_text(newest)

    page.get_by_role("link", name="Back to the newest").click()
    expect(page.locator("table.sagas tbody a").first).to_be_visible()


@pytest.mark.parametrize("kind", ["saga", "order", "tracking number"])
def test_any_id_leads_to_its_saga(page: Page, scene: Scene, shop: Shop, kind: str) -> None:
    order_id = shop.saga(scene.completed)["order_id"]
    found = {"saga": scene.completed, "order": order_id}
    found["tracking number"] = shop.get(f"/api/v1/orders/{order_id}").body["shipment"]["tracking_number"]
    page.goto("/sagas")

    page.get_by_label("Find by any id").fill(f" {found[kind]} ")
    page.keyboard.press("Enter")

    page.wait_for_url(f"**/sagas/{scene.completed}")
