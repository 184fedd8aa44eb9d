"""A CloudMart of its own, a Chromium, a person who visits, and what people do there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    StorageState,
    ViewportSize,
    expect,
    sync_playwright,
)

from app import runtime
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.processes import ENDS_WITHIN_SECONDS, end, end_of, kill_group, process_environment, spawn, wait_for
from tests.testkit.shop import Shop, http_transport
from tests.testkit.stacks import is_ready

CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium")
# as root, in a container, calling nobody
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium; its contexts share nothing."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


PASSWORD = "correct horse battery staple"


class Server:
    """The process, where it listens, and its database as an auditor sees it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        before = runtime.current()
        self.shop = Shop(http_transport(self.url), runtime.use(Runtime(settings)))
        runtime.use(before)

    def start(self) -> None:
        """Start the process; returns once it is ready."""
        environment = {**process_environment(self.settings), "OPERATOR_PASSWORD": PASSWORD}
        self._process = spawn([sys.executable, "-m", "app", "run"], environment, self._log)

        def ready() -> bool:
            assert self._process
            assert self._process.poll() is None, self.log()
            return is_ready(self.shop)

        wait_for(f"the server, see {self._log}", ready)

    def kill(self) -> None:
        """End the process at once, as kill -9 does."""
        assert self._process
        kill_group(self._process)

    def close(self) -> None:
        """End the process as an init system does."""
        assert self._process
        end(self._process, signal.SIGTERM, ENDS_WITHIN_SECONDS)
        self.shop.here.close()

    def log(self) -> str:
        """Return the last that the process wrote."""
        return end_of(self._log)


PATIENCE_MILLISECONDS = 60_000
DESK: ViewportSize = {"width": 1200, "height": 900}
CUT_OFF = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"
"""What a page that follows a saga complains of when its server is killed."""

MAX_OF_ONE = 100
"""How often one address may be asked for within a test: a page that renews itself is not to keep a server busy."""

LEFT = "net::ERR_ABORTED"
"""What a request fails with when its page is left before the answer."""


class Visitor:
    """Opens contexts on one site and keeps what went wrong in them; what a test expects, it says beforehand."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url
        self._contexts: list[BrowserContext] = []
        self._complaints: list[str] = []
        self._expected: list[str] = []
        self._asked: Counter[str] = Counter()

    def open(self, path: str | None = "/", **options: Any) -> Page:
        """Open a page in a context of its own, with Playwright's options for contexts; no path, no visit yet."""
        settings = {"viewport": DESK, "locale": "en-GB", "reduced_motion": "reduce", **options}
        context = self._browser.new_context(base_url=self.url, **settings)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self._complaints.append(f"page error: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        self._contexts.append(context)
        page = context.new_page()
        if path is not None:
            page.goto(path)
        return page

    def expect(self, pattern: str) -> None:
        """Take complaints that match for granted in this test."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        """Return what went wrong and was not expected."""
        return [one for one in self._complaints if not any(re.search(pattern, one) for pattern in self._expected)]

    def leave(self) -> None:
        """Close everything."""
        for context in self._contexts:
            context.close()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._complaints.append(f"console {message.type}: {message.text} at {message.location.get('url')}")

    def _request(self, request: Request) -> None:
        self._asked[request.url] += 1
        if self._asked[request.url] == MAX_OF_ONE:
            self._complaints.append(f"asked over and over: {request.url}")
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and f"{parts.scheme}://{parts.netloc}" != self.url:
            self._complaints.append(f"request to another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure == LEFT:
            return
        self._complaints.append(f"request failed: {request.method} {request.url}: {request.failure}")


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
