"""A person at a browser, who notices whatever goes wrong behind the page: errors, failed requests, other hosts."""

import re
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
)

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
