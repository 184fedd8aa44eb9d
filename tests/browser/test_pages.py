"""What holds on every page there is: nothing fails behind it, everybody can read it, on any screen."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, StorageState, ViewportSize, expect

from tests.browser.pages import FOR_OPERATORS, NO_PAGES, OTHERS, PAGES, Scene
from tests.testkit.browser import DESK, Visitor, see
from tests.testkit.shop import Shop
from web import create_app

PHONES = (390, 360)
PHONE_HEIGHT = 800
BARRIERS = {"serious", "critical"}


PLACES = {**PAGES, **{path: [path] for path in OTHERS}}


def barriers(page: Page) -> list[str]:
    """Return what keeps people out of a page as it is shown now."""
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url}: {one['id']}: {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in BARRIERS
        for node in one["nodes"]
    ]


def overhang(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_every_page_is_visited() -> None:
    rules = [rule for rule in create_app().url_map.iter_rules() if "GET" in (rule.methods or ())]
    pages = {rule.endpoint for rule in rules if rule.endpoint.startswith("pages.")}

    assert pages - NO_PAGES == set(PAGES)


@pytest.mark.parametrize("place", PLACES)
def test_everybody_can_read_it(visitor: Visitor, operator_session: StorageState, scene: Scene, place: str) -> None:
    visitor.expect("status of 404")
    session = {"storage_state": operator_session} if place in FOR_OPERATORS else {}
    page = visitor.open(None, **session)
    size: ViewportSize = {"width": PHONES[-1], "height": PHONE_HEIGHT}
    phone = visitor.open(None, locale="ja", viewport=size, has_touch=True, **session)

    for pattern in PLACES[place]:
        path = pattern.format(**vars(scene))
        page.set_viewport_size(DESK)
        page.goto(path)
        assert barriers(page) == [], "in light"
        page.emulate_media(color_scheme="dark")
        assert barriers(page) == [], "in dark"
        page.emulate_media(color_scheme="light")
        for width in PHONES:
            page.set_viewport_size({"width": width, "height": PHONE_HEIGHT})
            assert overhang(page) <= 0, f"{path} at {width} pixels"
        phone.goto(path)
        expect(phone.locator("html")).to_have_attribute("lang", "ja")
        assert overhang(phone) <= 0, f"{path} in Japanese"


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


def test_a_printed_drawing_is_whole(page: Page, scene: Scene) -> None:
    page.set_viewport_size({"width": 794, "height": 1123})  # a sheet of A4
    page.emulate_media(media="print")

    for saga_id in (scene.undone, scene.undone_choreographed):
        page.goto(f"/sagas/{saga_id}")
        drawings = page.locator("svg.diagram").all()
        assert len(drawings) == 2
        for drawing in drawings:
            box = drawing.bounding_box()
            assert box
            assert box["x"] + box["width"] <= 794
            assert box["height"] <= 1123


def test_the_apis_documentation_is_served_from_here(page: Page) -> None:
    page.goto("/")

    page.get_by_role("link", name="API", exact=True).click()

    expect(page.get_by_text("/api/v1/orders", exact=True).first).to_be_visible()


def test_pages_speak_the_browsers_language_until_the_reader_chooses_another(visitor: Visitor) -> None:
    page = visitor.open("/?from=here", locale="ja-JP")
    expect(page.locator("html")).to_have_attribute("lang", "ja")

    page.get_by_role("button", name="English").click()

    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert page.url == f"{visitor.url}/?from=here"
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("button", name="日本語").click()
    page.get_by_role("button", name="注文する").click()
    page.wait_for_url("**/sagas/*")
    expect(page.get_by_role("heading", name="収支は合っているか")).to_be_visible()
    see(page, "完了")
    expect(page.get_by_text("これ以上の変化はありません。")).to_be_visible()


STOP = """() => {
  const stop = document.activeElement, box = stop.getBoundingClientRect();
  return {
    name: stop.id || stop.name || stop.innerText,
    text: stop.innerText,
    marked: getComputedStyle(stop).outlineStyle !== "none",
    seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


def test_an_order_is_placed_by_keyboard_alone_which_shows_where_it_is(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()  # the first key skips what every page begins with

    page.goto("/")
    for _ in range(150):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        assert stop["marked"], f"{stop['name']} does not show that it has the focus"
        assert stop["seen"], f"{stop['name']} has the focus out of sight"
        if stop["text"] == "Place the order":
            break
    page.keyboard.press("Enter")

    page.wait_for_url("**/sagas/*")
    see(page, "Done")
