"""Nobody needs a mouse: the keyboard reaches everything, and shows where it is."""

from playwright.sync_api import Page, expect

MAX_STOPS = 150
STOP = """() => {
  const stop = document.activeElement, box = stop.getBoundingClientRect();
  return {
    name: stop.id || stop.name || stop.innerText,
    marked: getComputedStyle(stop).outlineStyle !== "none",
    seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


def tab_to(page: Page, text: str) -> None:
    """Press Tab until an element with this text has the focus, which must be seen at every stop on the way."""
    for _ in range(MAX_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        assert stop["marked"], f"{stop['name']} does not show that it has the focus"
        assert stop["seen"], f"{stop['name']} has the focus out of sight"
        if page.evaluate("document.activeElement.innerText") == text:
            return
    raise AssertionError(f"no key leads to {text}")


def test_an_order_is_placed_and_watched_by_keyboard_alone(page: Page) -> None:
    page.goto("/")

    tab_to(page, "Place the order")
    page.keyboard.press("Enter")

    page.wait_for_url("**/sagas/*")
    expect(page.get_by_role("status")).to_contain_text("Done")


def test_the_first_key_offers_to_skip_what_every_page_begins_with(page: Page) -> None:
    page.goto("/")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()
