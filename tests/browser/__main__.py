"""``make screenshots``: the pictures in ``docs/screenshots``, taken of a fresh shop with an order of every kind.

Flower's wants PostgreSQL and RabbitMQ, like the tests on real servers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import StorageState

from app.settings import ROOT
from tests.browser import flower
from tests.browser.pages import Scene, set_scene, settle
from tests.testkit.browser import Server, Visitor, chromium, session_of
from tests.testkit.processes import free_port
from tests.testkit.stacks import short_settings

FOLDER = ROOT / "docs" / "screenshots"
WIDTH = 1200
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DARK = {"color_scheme": "dark"}
JAPANESE = {"locale": "ja"}
OPERATOR = {"logged_in": True}


@dataclass(frozen=True)
class Picture:
    """A file's name, what it shows, how high it is (in pixels, from the top of the page), and for whom."""

    name: str
    path: Callable[[Scene], str]
    height: int
    reader: dict[str, Any] = field(default_factory=dict)


PICTURES = [
    Picture("learn", lambda _: "/learn", 1100),
    Picture("order", lambda _: "/", 1000),
    Picture("done", lambda scene: f"/sagas/{scene.completed}", 1100),
    Picture("undone", lambda scene: f"/sagas/{scene.undone}", 1100),
    Picture("choreographed", lambda scene: f"/sagas/{scene.undone_choreographed}", 1310),
    Picture("compared", lambda scene: f"/compare/{scene.undone}/{scene.undone_choreographed}", 1100),
    Picture("sagas", lambda _: "/sagas", 1100),
    Picture("stuck-dark", lambda scene: f"/sagas/{scene.stuck}", 1000, DARK),
    Picture("resume", lambda scene: f"/sagas/{scene.stuck}/resume", 620, OPERATOR),
    Picture("catalogue", lambda _: "/catalogue", 700, OPERATOR),
    Picture("phone", lambda scene: f"/sagas/{scene.undone}", 844, PHONE),
    Picture("japanese", lambda scene: f"/sagas/{scene.undone}", 1100, JAPANESE),
]


def take(visitor: Visitor, scene: Scene, operator: StorageState) -> None:
    """Take every picture."""
    for picture in PICTURES:
        options = {"viewport": {"width": WIDTH, "height": picture.height}, **picture.reader}
        session = {"storage_state": operator} if options.pop("logged_in", False) else {}
        page = visitor.open(picture.path(scene), **options, **session)
        page.screenshot(path=FOLDER / f"{picture.name}.png", animations="disabled")
        page.context.close()


def main() -> None:
    """Open a shop, have something happen in it, and take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, chromium() as browser:
        settings = short_settings(database_url=f"sqlite:///{folder}/shop.db", broker_url="memory://", port=free_port())
        server = Server(settings, Path(folder) / "server.log")
        server.start()
        try:
            scene = settle(server.shop, set_scene(server.shop))
            take(Visitor(browser, server.url), scene, session_of("Olga", browser, server.url))
        finally:
            server.close()
        flower.picture(browser, Path(folder), FOLDER / "flower.png")


if __name__ == "__main__":
    main()
