"""Pages speak the reader's language: the browser's, until the reader chooses the other."""

from playwright.sync_api import expect

from tests.browser.acts import see
from tests.browser.visitor import Visitor


def test_the_browsers_language_is_spoken(visitor: Visitor) -> None:
    page = visitor.open("/", locale="ja-JP")

    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.get_by_role("link", name="本文へ移動")).to_be_attached()


def test_a_reader_who_chooses_the_other_language_stays_on_the_page_and_in_the_language(visitor: Visitor) -> None:
    page = visitor.open("/?from=here")

    page.get_by_role("button", name="日本語").click()

    expect(page.locator("html")).to_have_attribute("lang", "ja")
    assert page.url == f"{visitor.url}/?from=here"
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_an_order_is_placed_and_watched_in_japanese(visitor: Visitor) -> None:
    page = visitor.open("/", locale="ja")

    page.get_by_role("button", name="注文する").click()

    page.wait_for_url("**/sagas/*")
    expect(page.get_by_role("heading", name="収支は合っているか")).to_be_visible()
    see(page, "完了")
    expect(page.get_by_text("これ以上の変化はありません。")).to_be_visible()
