"""Every page there is, by its endpoint, and where to find one that has something to show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from durable_sagas.stuck_groups import error_class
from tests.testkit.shop import Shop


@dataclass(frozen=True)
class Scene:
    """Sagas in every state that a page may show: their ids."""

    completed: str
    choreographed: str
    undone: str
    undone_choreographed: str
    stuck: str
    to_resume: str
    to_skip: str

    @property
    def to_look_at(self) -> list[str]:
        """Those that no test changes."""
        return [self.completed, self.choreographed, self.undone, self.undone_choreographed, self.stuck]


def set_scene(shop: Shop) -> Scene:
    """Place the orders, one of each kind; some take a while to get where they should."""
    broken = {"payments": "fail:1", "shipping": "decline"}

    def order(**options: Any) -> str:
        return str(shop.order("item-001", 2, **options)["saga_id"])

    def stuck(service: str) -> str:
        return order(simulate={"shipping": "decline", service: "undo-fail:9"})

    return Scene(
        stuck=stuck("inventory"),
        to_resume=stuck("inventory"),
        to_skip=stuck("payments"),
        completed=order(),
        choreographed=order(pattern="choreography"),
        undone=order(simulate=broken),
        undone_choreographed=order(pattern="choreography", simulate=broken),
    )


def settle(shop: Shop, scene: Scene) -> Scene:
    """Wait until every saga of the scene has ended or is stuck."""
    for saga_id in (*scene.to_look_at, scene.to_resume, scene.to_skip):
        shop.settle(saga_id)
    return scene


@dataclass(frozen=True)
class Place:
    """Where a page is found, by the scene; and whether only operators see it."""

    paths: Callable[[Scene], list[str]]
    for_operators: bool = False


STUCK_ERROR = urlencode({"error": error_class("unavailable, as simulated (7 of 9)", None)})

PAGES = {
    "pages.shop.home": Place(lambda _: ["/"]),
    "pages.learn.index": Place(lambda _: ["/learn"]),
    "pages.sagas.index": Place(lambda _: ["/sagas", "/sagas?status=stuck", "/sagas?customer_id=nobody"]),
    "pages.sagas.find": Place(lambda _: ["/sagas/find?q=customer-001", "/sagas/find?q=nothing"]),
    "pages.saga.show": Place(lambda scene: [f"/sagas/{saga_id}" for saga_id in scene.to_look_at]),
    "pages.compare.show": Place(
        lambda scene: [
            f"/compare/{scene.completed}/{scene.choreographed}",
            f"/compare/{scene.undone}/{scene.undone_choreographed}",
        ]
    ),
    "pages.catalogue.index": Place(lambda _: ["/catalogue", "/catalogue?category=none"]),
    "pages.catalogue.show": Place(lambda _: ["/catalogue/books/book-123"]),
    "pages.catalogue.add_book": Place(lambda _: ["/catalogue/new/book"], for_operators=True),
    "pages.catalogue.add_category": Place(lambda _: ["/catalogue/new/category"], for_operators=True),
    "pages.catalogue.change": Place(lambda _: ["/catalogue/books/book-123/change"], for_operators=True),
    "pages.catalogue.restock": Place(lambda _: ["/catalogue/books/book-123/restock"], for_operators=True),
    "pages.operate.log_in": Place(lambda _: ["/operator/login"]),
    "pages.operate.cancel": Place(lambda scene: [f"/sagas/{scene.completed}/cancel"], for_operators=True),
    "pages.operate.resume": Place(lambda scene: [f"/sagas/{scene.stuck}/resume"], for_operators=True),
    "pages.operate.skip": Place(lambda scene: [f"/sagas/{scene.stuck}/skip"], for_operators=True),
    "pages.stuck.show": Place(lambda _: [f"/stuck/reserve_stock?{STUCK_ERROR}", "/stuck/none?error=none"]),
    "pages.stuck.resume": Place(
        lambda _: ["/stuck/reserve_stock/resume", f"/stuck/reserve_stock/resume?{STUCK_ERROR}", "/stuck/none/resume"],
        for_operators=True,
    ),
    "pages.stuck.resumed": Place(
        lambda scene: [f"/stuck/resumed/{scene.stuck}/{scene.stuck}?by=Olga"], for_operators=True
    ),
    "pages.problem_types.overview": Place(lambda _: ["/problems"]),
    "pages.problem_types.show": Place(lambda _: ["/problems/conflict"]),
}
"""By endpoint: where the page is visited."""

OTHERS = ["/nothing", "/sagas/none", "/graphql"]
"""Pages that are not among the pages' endpoints: what is said of an address that leads nowhere, and GraphQL's."""

NO_PAGES = {"pages.compare.part", "pages.stuck.part", "pages.sagas.counts", "pages.sagas.incidents", "pages.live.saga"}
"""Endpoints among the pages' that answer something else than a page: streams and fragments for scripts."""
