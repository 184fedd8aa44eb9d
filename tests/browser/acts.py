"""What people do on more than one page."""

from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.server import PASSWORD


def choose(page: Page, **copies: int) -> None:
    """Open the shop and fill the basket with these books only; an underscore stands for a hyphen in a book's id."""
    page.goto("/")
    for field in page.locator("[name^='copies.']").all():
        field.fill("0")
    for book_id, number in copies.items():
        page.locator(f"[name='copies.{book_id.replace('_', '-')}']").fill(str(number))


def see(page: Page, word: str) -> None:
    """Wait until the page of a saga says that it is this."""
    expect(page.locator("#live .mark").first).to_contain_text(word)


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Fill in the login and send it."""
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Password of the operators").fill(password)
    page.get_by_role("button", name="Log in").click()


def session_of(name: str, browser: Browser, url: str) -> StorageState:
    """Log in; returns the cookies that show it."""
    page = browser.new_page(base_url=url, locale="en")
    page.goto("/operator/login")
    log_in(page, name)
    expect(page.get_by_text(f"Operator: {name}")).to_be_visible()
    session = page.context.storage_state()
    page.close()
    return session
