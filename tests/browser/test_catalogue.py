"""The catalogue: everybody reads it, operators keep it, and the shop sells what is in it."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.acts import choose
from tests.browser.visitor import Visitor
from tests.testkit.shop import Shop


def test_a_book_is_put_on_sale_delivered_repriced_and_ordered(operator: Page) -> None:
    operator.goto("/catalogue")
    operator.get_by_role("link", name="Add a book…").click()
    operator.get_by_label("Title").fill("分散システム入門")
    operator.get_by_label("Price").fill("1800")
    operator.get_by_label("Copies in stock").fill("1")
    operator.get_by_label("Id", exact=False).last.fill("new-book")
    operator.get_by_role("button", name="Put it on sale").click()
    expect(operator.get_by_role("heading", name="分散システム入門")).to_be_visible()

    operator.get_by_role("link", name="Take a delivery…").click()
    operator.get_by_label("Copies that arrived").fill("4")
    operator.get_by_role("button", name="Take them into stock").click()
    expect(operator.get_by_text("5 received = 5 in stock")).to_be_visible()
    expect(operator.get_by_role("cell", name="Olga")).to_be_visible()

    operator.get_by_role("link", name="Change…").click()
    operator.get_by_label("Price").fill("1500")
    operator.get_by_role("button", name="Change it").click()
    expect(operator.get_by_text("1,500")).to_be_visible()

    choose(operator, new_book=2)
    expect(operator.locator(".basket output")).to_have_text("3,000")


def test_readers_look_at_it_and_change_nothing(page: Page) -> None:
    page.goto("/catalogue")
    page.get_by_role("link", name="プログラミング入門").click()

    expect(page.get_by_text("adds up")).to_be_visible()
    expect(page.get_by_role("link", name="Change…")).to_have_count(0)
    page.goto("/catalogue/books/book-789/change")
    expect(page.get_by_label("Password of the operators")).to_be_visible()


@pytest.mark.parametrize("width", [1200, 390])
def test_a_long_title_does_not_push_price_and_stock_out_of_sight(visitor: Visitor, shop: Shop, width: int) -> None:
    title = f"({width}) " + "x" * 180
    shop.post("/api/v1/products", {"name": title, "price": 12.5, "stock_quantity": 7})
    page = visitor.open(None, viewport={"width": width, "height": 800})

    for path, places in ((f"/?q=({width})", (".price", ".stock")), ("/catalogue", ("td.number",))):
        page.goto(path)
        shown = page.locator(".book, tr").filter(has_text=title)
        for place in places:
            box = shown.locator(place).first.bounding_box()
            assert box
            assert box["x"] + box["width"] <= width, f"{place} of {path}"
