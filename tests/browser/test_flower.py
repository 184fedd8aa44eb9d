"""What an operator finds in Flower about one order."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.flower import broken_order, find_tasks


def test_flower_shows_all_of_an_order_with_its_retry_and_its_compensations(browser: Browser, tmp_path: Path) -> None:
    with broken_order(tmp_path) as (url, saga_id):
        page = browser.new_page(locale="en")
        find_tasks(page, url, saga_id)
        rows = page.locator("#tasks-table tbody tr")
        retried = rows.filter(has_text="payments.process_payment").locator("td")
        rejected = rows.filter(has_text="shipping.arrange_shipping").locator("td")

        expect(retried.nth(2)).to_have_text("SUCCESS")
        expect(retried.nth(3)).to_have_text("1")
        expect(retried.nth(4)).to_contain_text("unavailable, as simulated")
        expect(rejected.nth(2)).to_have_text("FAILURE")
        expect(rejected.nth(4)).to_have_text("StepFailed('arrange_shipping: declined, as simulated')")
        page.close()
