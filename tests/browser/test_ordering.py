"""A person orders books, and watches what becomes of the order."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.acts import choose, see
from tests.browser.visitor import Visitor
from tests.testkit.shop import Shop


def place(page: Page) -> None:
    """Send the order in the form and go to its saga."""
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_url("**/sagas/*")


@pytest.mark.parametrize("way", ["order", "order-payment-first", "order-choreography"])
def test_an_order_of_several_books_completes_before_the_readers_eyes(page: Page, shop: Shop, way: str) -> None:
    choose(page, item_001=2, product_1=3)
    expect(page.locator(".basket output")).to_have_text("1,300")
    page.locator(f"#{way}").check()

    place(page)

    see(page, "Done")
    saga = shop.saga(page.url.rpartition("/")[2])
    order = shop.get(f"/api/v1/orders/{saga['order_id']}").body
    assert saga["saga_type"] == way
    assert [(item["book_id"], item["quantity"]) for item in order["items"]] == [("item-001", 2), ("product-1", 3)]


def test_a_declined_payment_is_undone_and_nothing_is_kept(page: Page) -> None:
    choose(page, item_001=1)
    page.get_by_label("payments").select_option("decline")

    place(page)

    see(page, "Undone")
    expect(page.get_by_text("process_payment: declined, as simulated").first).to_be_visible()
    diagram = page.get_by_role("img", name="The steps of the saga")
    expect(diagram.locator(".failed")).to_contain_text("process payment")
    expect(diagram.locator(".undone")).to_have_count(2)
    expect(diagram.locator(".skipped")).to_contain_text("Nothing to undo")
    expect(page.locator(".ledger .verdict.right")).to_have_count(3)


def test_a_failing_carrier_has_the_money_given_back(page: Page) -> None:
    choose(page, item_001=2)
    page.get_by_label("shipping", exact=True).select_option("decline")
    page.locator("#order-choreography").check()

    place(page)

    see(page, "Undone")
    expect(page.locator(".ledger li").first).to_contain_text(re.compile(r"charged 1,000\W+refunded 1,000\W+net 0"))
    expect(page.locator(".ledger .verdict.right")).to_have_count(3)
    expect(page.get_by_role("img", name="Who said what to whom")).to_contain_text("ShippingFailed")


def test_retries_are_seen_with_their_reasons(page: Page) -> None:
    choose(page, item_001=1)
    page.get_by_label("inventory").select_option("fail:2")

    place(page)

    see(page, "Done")
    failures = page.locator("#failures-reserve_stock-action")
    failures.locator("summary").click()
    expect(failures.get_by_role("listitem")).to_have_count(2)
    expect(failures.get_by_text("unavailable, as simulated (1 of 2)")).to_be_visible()
    expect(page.get_by_role("img", name="The steps of the saga")).to_contain_text("3 attempts")


def test_it_works_without_scripts(visitor: Visitor) -> None:
    page = visitor.open(None, java_script_enabled=False)
    choose(page, item_001=1)
    page.get_by_role("button", name="Add up again").click()
    expect(page.locator(".basket output")).to_have_text("500")
    page.locator("#order-choreography").check()

    place(page)

    see(page, "Done")


def test_what_is_wrong_is_said_at_its_field_and_what_was_entered_is_kept(visitor: Visitor) -> None:
    visitor.expect("status of 422")
    page = visitor.open(None)
    choose(page, item_001=1, product_1=2)
    page.get_by_label("Customer").fill("nobody")

    page.get_by_role("button", name="Place the order").click()

    expect(page.get_by_role("alert")).to_contain_text("The order was not placed.")
    expect(page.get_by_label("Customer")).to_have_value("nobody")
    expect(page.get_by_label("Customer")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name='copies.product-1']")).to_have_value("2")


def test_more_than_there_is_in_stock_is_pointed_out_and_undone(page: Page) -> None:
    choose(page, book_456=1)
    expect(page.get_by_text("More than there is in stock: the order is accepted, and then undone.")).to_be_visible()

    place(page)

    see(page, "Undone")


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
    place(page)
    first = page.url

    page.go_back()
    page.locator(f"[name='copies.{book}']").fill("2")
    place(page)

    assert page.url != first
    see(page, "Done")
    assert shop.stock(book) == (7, 0)
