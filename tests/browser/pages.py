"""Every page there is, by its endpoint, and where to find one that has something to show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.shop import Shop


@dataclass(frozen=True)
class Scene:
    """Sagas in every state that a page may show: their ids."""

    completed: str
    choreographed: str
    undone: str
    undone_choreographed: str
    stuck: str


def set_scene(shop: Shop) -> Scene:
    """Place the orders, one of each kind; some take a while to get where they should."""
    book = shop.add_book(stock=100)

    def order(**options: Any) -> str:
        return str(shop.order(book, 2, **options)["saga_id"])

    return Scene(
        stuck=order(simulate={"inventory": "undo-fail:9", "shipping": "decline"}),
        completed=order(),
        choreographed=order(pattern="choreography"),
        undone=order(simulate={"payments": "fail:1", "shipping": "decline"}),
        undone_choreographed=order(pattern="choreography", simulate={"payments": "decline"}),
    )


def settle(shop: Shop, scene: Scene) -> Scene:
    """Wait until every saga of the scene has ended or is stuck."""
    for saga_id in vars(scene).values():
        shop.settle(saga_id)
    return scene


PAGES: dict[str, Callable[[Scene], list[str]]] = {
    "pages.shop.home": lambda _: ["/"],
    "pages.saga.show": lambda scene: [f"/sagas/{saga_id}" for saga_id in vars(scene).values()],
}
"""By endpoint: the paths at which the page is visited."""

OTHERS = ["/nothing", "/sagas/none"]
"""Pages that no endpoint has: what is said of an address that leads nowhere."""

NO_PAGES: set[str] = set()
"""Endpoints among the pages' that answer something else than a page: streams and fragments for scripts."""
