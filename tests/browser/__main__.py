"""``make screenshots``: the pictures in ``docs/screenshots``, taken of a fresh shop with an order of every kind.

Flower's wants PostgreSQL and RabbitMQ, like the tests on real servers.
"""

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
    """A file's name, its page with the names of the scene's sagas, its height in pixels from the top, and for whom."""

    name: str
    path: str
    height: int
    reader: dict[str, Any] = field(default_factory=dict)


PICTURES = [
    Picture("learn", "/learn", 1100),
    Picture("order", "/", 1000),
    Picture("done", "/sagas/{completed}", 1100),
    Picture("undone", "/sagas/{undone}", 1100),
    Picture("choreographed", "/sagas/{undone_choreographed}", 1310),
    Picture("compared", "/compare/{undone}/{undone_choreographed}", 1100),
    Picture("sagas", "/sagas", 1100),
    Picture("stuck-dark", "/sagas/{stuck}", 1000, DARK),
    Picture("resume", "/sagas/{stuck}/resume", 620, OPERATOR),
    Picture("catalogue", "/catalogue", 700, OPERATOR),
    Picture("phone", "/sagas/{undone}", 844, PHONE),
    Picture("japanese", "/sagas/{undone}", 1100, JAPANESE),
]


def take(visitor: Visitor, scene: Scene, operator: StorageState) -> None:
    """Take every picture."""
    for picture in PICTURES:
        options = {"viewport": {"width": WIDTH, "height": picture.height}, **picture.reader}
        session = {"storage_state": operator} if options.pop("logged_in", False) else {}
        page = visitor.open(picture.path.format(**vars(scene)), **options, **session)
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
