"""Flower as an operator uses it: a real one beside real workers, asked for everything of one order."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, expect

from tests.testkit.orders import BROKEN, TASKS
from tests.testkit.processes import free_port, roles, wait_for
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES


@contextmanager
def flower_beside(shop: Shop, folder: Path) -> Iterator[str]:
    """Run Flower beside a shop's workers; yields its address once it knows all of them."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "celery", "-A", "app", "flower", "--address=127.0.0.1", f"--port={port}"]
    with roles({"flower": command}, shop.here.settings, folder):
        shop.wait_for(lambda: _workers(url), lambda known: known == len(QUEUES))
        yield url


def _workers(url: str) -> int:
    try:
        with urlopen(f"{url}/workers?json=1", timeout=60) as answer:
            return len(json.load(answer)["data"])
    except OSError:
        return 0


def find_tasks(page: Page, url: str, saga_id: str) -> None:
    """Search Flower's list of tasks for a saga; returns when it shows all that were done for a broken order."""
    rows = page.locator("#tasks-table tbody tr")
    found_or_not = re.compile(f"{saga_id}|No matching records|No data available")

    def search() -> int:
        page.goto(f"{url}/tasks")  # the list does not follow by itself
        page.get_by_label("Search tasks").fill(saga_id)
        expect(rows.first).to_contain_text(found_or_not)
        return rows.filter(has_text=saga_id).count()

    wait_for("Flower to hear of every task", lambda: search() == len(TASKS))


def picture(browser: Browser, folder: Path, file: Path) -> None:
    """Open a shop on real servers, break an order among others, and take a picture of what Flower says of it."""
    with broken_order(folder) as (url, saga_id):
        page = browser.new_page(viewport={"width": 1720, "height": 810}, locale="en")
        find_tasks(page, url, saga_id)
        page.screenshot(path=file, animations="disabled")
        page.close()


@contextmanager
def broken_order(folder: Path) -> Iterator[tuple[str, str]]:
    """Open a shop on real servers and break an order among others; yields Flower's address, and the order's saga."""
    with (
        # a slow machine's sweep must not send again what waits: that would be more tasks
        open_shop("postgresql+rabbitmq", folder, folder, step_timeout_seconds=120, stall_seconds=120) as shop,
        flower_beside(shop, folder) as url,
    ):
        sagas = [shop.order("item-001", simulate=faults)["saga_id"] for faults in ({}, BROKEN, {})]
        for saga_id in sagas:
            shop.settle(saga_id)
        yield url, sagas[1]
