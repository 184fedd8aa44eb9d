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
    "pages.sagas.index": lambda _: ["/sagas", "/sagas?status=stuck", "/sagas?customer_id=nobody"],
    "pages.sagas.find": lambda _: ["/sagas/find?q=customer-001", "/sagas/find?q=nothing"],
    "pages.saga.show": lambda scene: [f"/sagas/{saga_id}" for saga_id in vars(scene).values()],
    "pages.problem_types.overview": lambda _: ["/problems"],
    "pages.problem_types.show": lambda _: ["/problems/conflict"],
}
"""By endpoint: the paths at which the page is visited."""

OTHERS = ["/nothing", "/sagas/none", "/graphql"]
"""Pages that are not among the pages' endpoints: what is said of an address that leads nowhere, and GraphQL's."""

NO_PAGES = {"pages.sagas.counts", "pages.sagas.incidents", "pages.live.saga"}
"""Endpoints among the pages' that answer something else than a page: streams and fragments for scripts."""
