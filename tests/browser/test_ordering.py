"""A person orders books, and watches what becomes of the order."""

from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor


def place(page: Page, **choices: str) -> None:
    """Fill in the order form, by its fields' names, and send it."""
    page.goto("/")
    for name, value in choices.items():
        page.locator(f"[name={name}]").select_option(value)
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_url("**/sagas/*")


def test_an_order_completes_before_the_readers_eyes(page: Page) -> None:
    place(page, book_id="item-001", saga_type="order")

    expect(page.get_by_role("status")).to_contain_text("Done")


def test_a_declined_payment_is_undone_before_the_readers_eyes(page: Page) -> None:
    place(page, book_id="item-001", service="payments", fault="decline")

    expect(page.get_by_role("status")).to_contain_text("Undone")
    expect(page.get_by_text("process_payment: declined, as simulated").first).to_be_visible()


def test_it_works_without_scripts(visitor: Visitor) -> None:
    page = visitor.open(None, java_script_enabled=False)

    place(page, book_id="item-001", saga_type="order-choreography")

    expect(page.get_by_role("status")).to_contain_text("Done")


def test_what_is_wrong_is_said_at_its_field(visitor: Visitor) -> None:
    visitor.expect("status of 422")
    page = visitor.open("/", java_script_enabled=False)
    page.get_by_label("Quantity").evaluate("field => field.removeAttribute('max')")
    page.get_by_label("Quantity").fill("100000")

    page.get_by_role("button", name="Place the order").click()

    expect(page.get_by_role("alert")).to_contain_text("The order was not placed.")
    expect(page.get_by_label("Quantity")).to_have_value("100000")
