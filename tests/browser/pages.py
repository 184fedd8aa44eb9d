"""Every page there is, by its endpoint, and where to find one that has something to show."""

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


LOOKED_AT = ("completed", "choreographed", "undone", "undone_choreographed", "stuck")
"""Those that no test changes."""


def set_scene(shop: Shop) -> Scene:
    """Place the orders, one of each kind; some take a while to get where they should."""
    broken = {"payments": "fail:1", "shipping": "decline"}

    stuck = {"shipping": "decline", "inventory": "undo-fail:9"}

    def order(**options: Any) -> str:
        return str(shop.order("item-001", 2, **options)["saga_id"])

    return Scene(
        stuck=order(simulate=stuck),
        to_resume=order(simulate=stuck),
        completed=order(),
        choreographed=order(pattern="choreography"),
        undone=order(simulate=broken),
        undone_choreographed=order(pattern="choreography", simulate=broken),
    )


def settle(shop: Shop, scene: Scene) -> Scene:
    """Wait until every saga of the scene has ended or is stuck."""
    for saga_id in vars(scene).values():
        shop.settle(saga_id)
    return scene


STUCK_ERROR = urlencode({"error": error_class("unavailable, as simulated (7 of 9)", None)})

PAGES = {
    "pages.shop.home": ["/"],
    "pages.learn.index": ["/learn"],
    "pages.sagas.index": ["/sagas", "/sagas?status=stuck", "/sagas?customer_id=nobody"],
    "pages.sagas.find": ["/sagas/find?q=customer-001", "/sagas/find?q=nothing"],
    "pages.saga.show": [f"/sagas/{{{name}}}" for name in LOOKED_AT],
    "pages.compare.show": ["/compare/{completed}/{choreographed}", "/compare/{undone}/{undone_choreographed}"],
    "pages.catalogue.index": ["/catalogue", "/catalogue?category=none"],
    "pages.catalogue.show": ["/catalogue/books/book-123"],
    "pages.catalogue.add_book": ["/catalogue/new/book"],
    "pages.catalogue.add_category": ["/catalogue/new/category"],
    "pages.catalogue.change": ["/catalogue/books/book-123/change"],
    "pages.catalogue.restock": ["/catalogue/books/book-123/restock"],
    "pages.operate.log_in": ["/operator/login"],
    "pages.operate.cancel": ["/sagas/{completed}/cancel"],
    "pages.operate.resume": ["/sagas/{stuck}/resume"],
    "pages.operate.skip": ["/sagas/{stuck}/skip"],
    "pages.stuck.show": [f"/stuck/reserve_stock?{STUCK_ERROR}", "/stuck/none?error=none"],
    "pages.stuck.resume": [f"/stuck/{place}/resume" for place in ("reserve_stock", "none")]
    + [f"/stuck/reserve_stock/resume?{STUCK_ERROR}"],
    "pages.stuck.resumed": ["/stuck/resumed/{stuck}/{stuck}?by=Olga"],
    "pages.problem_types.overview": ["/problems"],
    "pages.problem_types.show": ["/problems/conflict"],
}
"""By endpoint: where the page is visited, with the names of the scene's sagas."""

FOR_OPERATORS = {
    *(f"pages.catalogue.{page}" for page in ("add_book", "add_category", "change", "restock")),
    *(f"pages.operate.{page}" for page in ("cancel", "resume", "skip")),
    *(f"pages.stuck.{page}" for page in ("resume", "resumed")),
}

OTHERS = ["/nothing", "/sagas/none", "/graphql"]
"""Pages that are not among the pages' endpoints: what is said of an address that leads nowhere, and GraphQL's."""

NO_PAGES = {"pages.compare.part", "pages.stuck.part", "pages.sagas.counts", "pages.sagas.incidents", "pages.live.saga"}
"""Endpoints among the pages' that answer something else than a page: streams and fragments for scripts."""
