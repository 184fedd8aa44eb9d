"""What people come for, from the first click to the last: ordering, comparing, keeping the catalogue, operating."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import Scene
from tests.testkit.browser import Visitor, choose, log_in, see
from tests.testkit.shop import Shop


def place(page: Page) -> None:
    """Send the order in the form and go to its saga."""
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_url("**/sagas/*")


def test_an_order_of_several_books_is_undone_before_the_readers_eyes(page: Page, shop: Shop) -> None:
    choose(page, item_001=2, product_1=3)
    expect(page.locator(".basket output")).to_have_text("1,300")
    page.locator("#order").check()
    page.get_by_label("payments").select_option("decline")

    place(page)

    see(page, "Compensated")
    order = shop.get(f"/api/v1/orders/{shop.saga(page.url.rpartition('/')[2])['order_id']}").body
    assert [(item["book_id"], item["quantity"]) for item in order["items"]] == [("item-001", 2), ("product-1", 3)]
    expect(page.get_by_text("process_payment: declined, as simulated").first).to_be_visible()
    diagram = page.get_by_role("img", name="The steps of the saga")
    expect(diagram.locator(".failed")).to_contain_text("process payment")
    expect(diagram.locator(".undone")).to_have_count(2)
    expect(diagram.locator(".skipped")).to_contain_text("Nothing to compensate")
    expect(page.locator(".ledger .verdict.right")).to_have_count(3)


def test_more_than_there_is_in_stock_is_pointed_out(page: Page) -> None:
    choose(page, book_456=1)

    expect(
        page.get_by_text("More than there is in stock: the order is accepted, and then compensated.")
    ).to_be_visible()


def test_an_impatient_reader_who_clicks_twice_orders_once(page: Page, shop: Shop) -> None:
    book = shop.add_book(stock=10)
    choose(page, **{book: 1})

    page.get_by_role("button", name="Place the order").dblclick()

    see(page, "Done")
    assert shop.stock(book) == (9, 0)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_form_that_was_changed_after_the_back_button_places_another_order(
    visitor: Visitor, shop: Shop, scripts: bool
) -> None:
    book = shop.add_book(stock=10)
    page = visitor.open(None, java_script_enabled=scripts)
    choose(page, **{book: 1})
    if not scripts:
        page.get_by_role("button", name="Add up again").click()
        expect(page.locator(".basket output")).to_have_text("1,200")
    place(page)
    first = page.url

    page.go_back()
    page.locator(f"[name='copies.{book}']").fill("2")
    place(page)

    assert page.url != first
    see(page, "Done")
    assert shop.stock(book) == (7, 0)


def test_the_same_order_both_ways_is_watched_side_by_side(page: Page, shop: Shop) -> None:
    choose(page, item_001=1)
    page.get_by_label("shipping", exact=True).select_option("decline")

    page.get_by_role("button", name="The same order both ways").click()

    page.wait_for_url("**/compare/*/*")
    page.evaluate("window.watched = true")
    expect(page.get_by_role("heading", name="The same order, both ways")).to_be_visible()
    types = {shop.settle(saga_id)["saga_type"] for saga_id in page.url.split("/")[-2:]}
    assert types == {"order", "order-choreography"}
    expect(page.locator("#live .now .mark.undone")).to_have_count(2)
    assert page.evaluate("window.watched"), "the page was loaded again"


def test_the_counts_follow_by_themselves_and_any_id_leads_to_its_saga(page: Page, shop: Shop) -> None:
    page.goto("/sagas")
    done = page.locator(".counts .count:has(.mark.done) dd")
    before = int(done.inner_text())

    saga = shop.settle(shop.order("item-001")["saga_id"])

    expect(done).not_to_have_text(str(before))
    assert int(done.inner_text()) > before
    page.get_by_label("Find by any id").fill(f" {saga['order_id']} ")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/sagas/{saga['saga_id']}")


def test_what_is_stuck_is_found_and_resumed_by_whoever_logs_in(page: Page, scene: Scene, shop: Shop) -> None:
    page.goto("/sagas")
    expect(page.get_by_role("heading", name="Needs you (")).to_be_visible()

    page.locator(".incidents [href*=reserve_stock]").first.click()
    page.get_by_role("link", name=shop.saga(scene.to_resume)["order_id"]).click()
    see(page, "Stuck: needs you")
    page.get_by_role("link", name="Resume …").click()
    log_in(page, "Ann")
    expect(page.get_by_text("It continues compensating where it stopped.")).to_be_visible()
    page.get_by_role("button", name="Resume it").click()

    expect(page.get_by_text("Resumed: it continues where it stopped.")).to_be_visible()
    see(page, "Compensated")
    expect(page.get_by_role("row", name="Ann Resumed it")).to_be_visible()
