"""What the browser's tests share: one CloudMart, one Chromium, and a visitor per test who overlooks nothing."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.pages import Scene, set_scene, settle
from tests.testkit.browser import CHROMIUM, PATIENCE_MILLISECONDS, Server, Visitor, chromium, session_of
from tests.testkit.processes import free_port
from tests.testkit.servers import not_here
from tests.testkit.shop import Shop
from tests.testkit.stacks import short_settings

expect.set_options(timeout=PATIENCE_MILLISECONDS)


# The scope is the package, not the session: while Playwright's own event loop runs in this thread, no other test's can.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    if CHROMIUM is None or not Path(CHROMIUM).exists():
        not_here("there is no Chromium: install it (`make services`) or set TEST_CHROMIUM")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def server(browser: Browser, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One CloudMart for all tests, and the audit of its books when they have done with it."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copy(seeded_database, folder / "shop.db")
    settings = short_settings(
        database_url=f"sqlite:///{folder / 'shop.db'}",
        broker_url="memory://",
        port=free_port(),
        step_timeout_seconds=30,
        order_timeout_seconds=30,
    )
    server = Server(settings, folder / "server.log")
    try:
        server.start()
        yield server
        found = server.shop.violations()
    finally:
        server.close()
    assert not found


@pytest.fixture(scope="package")
def shop(server: Server) -> Shop:
    """The same CloudMart, by its API."""
    return server.shop


@pytest.fixture
def visitor(browser: Browser, server: Server) -> Iterator[Visitor]:
    """Who opens pages; any error, failed request or request to another host fails the test."""
    visitor = Visitor(browser, server.url)
    yield visitor
    visitor.leave()
    if unexpected := visitor.unexpected():
        sys.stdout.write(server.log())
        pytest.fail("\n".join(unexpected))


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """A page at a desk, not anywhere yet."""
    return visitor.open(None)


@pytest.fixture(scope="package")
def operator_session(browser: Browser, server: Server) -> StorageState:
    """The cookies of somebody who has logged in, once for all tests."""
    return session_of("Olga", browser, server.url)


@pytest.fixture(scope="package", autouse=True)
def placed(server: Server) -> Scene:
    """Sagas on their way into every state; placed early, for a saga gets stuck only after many a retry."""
    return set_scene(server.shop)


@pytest.fixture(scope="package", autouse=True)
def to_watch(server: Server) -> list[str]:
    """Sagas that get stuck, placed as early, for the three tests that watch one until they resume it."""
    broken = {"shipping": "decline", "inventory": "undo-fail:7"}
    return [server.shop.order("item-001", simulate=broken)["saga_id"] for _ in range(3)]


@pytest.fixture
def stuck(to_watch: list[str], shop: Shop) -> str:
    """A saga of the test's own: it stays stuck for as long as the test wants it to, and is undone when resumed."""
    saga_id = to_watch.pop()
    assert shop.settle(saga_id)["status"] == "stuck"
    return saga_id


@pytest.fixture(scope="package")
def scene(placed: Scene, shop: Shop) -> Scene:
    """Sagas in every state."""
    return settle(shop, placed)
