"""A live page on real servers, served by two web processes of which either may be killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.acts import see
from tests.browser.visitor import CUT_OFF, Visitor
from tests.testkit.processes import role_commands, roles
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop


@pytest.fixture
def served_by_two(seeded_database: Path, tmp_path: Path, browser: Browser) -> Iterator[Shop]:
    """A shop whose orders are under way until somebody starts the worker of shipping."""
    patient = {"step_timeout_seconds": 600, "stall_seconds": 5}
    with open_shop(
        "postgresql+rabbitmq", seeded_database, tmp_path, web_workers=2, absent="shipping", **patient
    ) as shop:
        yield shop


def web_workers(shop: Shop) -> set[int]:
    """Return the processes that serve this shop's web: those that a process of the same command line has started."""
    bind = f"127.0.0.1:{shop.here.settings.port}".encode()
    named = {int(folder.name) for folder in Path("/proc").glob("[0-9]*") if bind in command_line(folder)}
    return {pid for pid in named if parent(pid) in named}


def command_line(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []  # it has just ended


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_a_page_outlives_each_process_that_serves_it(served_by_two: Shop, browser: Browser, tmp_path: Path) -> None:
    shop = served_by_two
    visitor = Visitor(browser, f"http://127.0.0.1:{shop.here.settings.port}")
    visitor.expect(CUT_OFF)
    page = visitor.open(None)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.resource_type))
    saga_id = shop.order("item-001")["saga_id"]
    page.goto(f"/sagas/{saga_id}")
    page.evaluate("window.watched = true")
    see(page, "Running")

    killed: set[int] = set()
    for pid in shop.wait_for(lambda: web_workers(shop), lambda found: len(found) == 2):
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        shop.wait_for(lambda: web_workers(shop) - killed, lambda others: len(others) == 2)

    with roles({"shipping": role_commands(shop.here.settings)["shipping"]}, shop.here.settings, tmp_path):
        assert shop.settle(saga_id)["status"] == "completed"
    see(page, "Done")
    assert page.evaluate("window.watched"), "the page was loaded again"
    assert requested.count("eventsource") > 1, "no stream was cut off"
    visitor.leave()
    assert not visitor.unexpected()
    assert not shop.violations()
