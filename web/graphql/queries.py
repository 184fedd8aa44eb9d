"""GraphQL queries: the catalogue, orders, sagas and events; lists use keyset pagination."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import strawberry
from strawberry import ID

from web import cursors
from web.api.requests import BookPath, InventoryQuery, OrderPath, OrdersQuery, PageQuery, SagaPath, SagasQuery
from web.cursors import Row, cursor_of
from web.fields import DEFAULT_PAGE
from web.graphql.descriptions import output_type
from web.graphql.enums import OrderStatus, SagaStatus
from web.graphql.field_names import validate, with_graphql_names
from web.graphql.types import Category, Event, Order, Page, PageInfo, Product, Saga
from workflows.read_side import queries

Node = TypeVar("Node")

NAMES = {"limit": "first", "cursor": "after", "customer_id": "userId", "saga_id": "id", "book_id": "id"}


@output_type
class Query:
    """The queries of the shop. `first` is at most 100; `after` is the `endCursor` of the previous page."""

    @strawberry.field
    def products(
        self, category_id: ID | None = None, first: int = DEFAULT_PAGE, after: str | None = None
    ) -> Page[Product]:
        """List the books on sale, ordered by id."""
        with with_graphql_names(**NAMES):
            query = validate(InventoryQuery, {"category_id": category_id, "limit": first, "cursor": after})
            return _page(query.page(), Product.page)

    @strawberry.field
    def product(self, id: ID) -> Product:  # noqa: A002
        """Show one book."""
        with with_graphql_names(**NAMES):
            return Product.page([queries.book(validate(BookPath, {"book_id": id}).book_id)])[0]

    @strawberry.field
    def categories(self, first: int = DEFAULT_PAGE, after: str | None = None) -> Page[Category]:
        """List the categories, ordered by id."""
        with with_graphql_names(**NAMES):
            query = validate(PageQuery, {"limit": first, "cursor": after})
            page = queries.categories(after=cursors.text_position(query.cursor), limit=query.limit)
        return _page(page, Category.page)

    @strawberry.field
    def orders(
        self,
        status: OrderStatus | None = None,
        user_id: ID | None = None,
        first: int = DEFAULT_PAGE,
        after: str | None = None,
    ) -> Page[Order]:
        """List orders, newest first."""
        arguments = {"status": status, "customer_id": user_id, "limit": first, "cursor": after}
        with with_graphql_names(**NAMES):
            return _page(validate(OrdersQuery, arguments).page(), Order.page)

    @strawberry.field
    def order(self, id: ID) -> Order:  # noqa: A002
        """Show one order."""
        with with_graphql_names(order_id="id"):
            return Order.page([queries.order(validate(OrderPath, {"order_id": id}).order_id)])[0]

    @strawberry.field
    def sagas(
        self,
        status: SagaStatus | None = None,
        saga_type: str | None = None,
        step: str | None = None,
        first: int = DEFAULT_PAGE,
        after: str | None = None,
    ) -> Page[Saga]:
        """List sagas, newest first; `step` is the one at which they are, or on which they are stuck."""
        arguments = {"status": status, "saga_type": saga_type, "step": step, "limit": first, "cursor": after}
        with with_graphql_names(**NAMES):
            return _page(validate(SagasQuery, arguments).page(), Saga.page)

    @strawberry.field
    def saga(self, id: ID) -> Saga:  # noqa: A002
        """Show one saga."""
        with with_graphql_names(**NAMES):
            return Saga.page([queries.saga(validate(SagaPath, {"saga_id": id}).saga_id).saga])[0]

    @strawberry.field
    def events(self, order_id: ID) -> list[Event]:
        """List the events of an order, in the order in which the services published them."""
        with with_graphql_names():
            return list(map(Event.of, queries.events_of(validate(OrderPath, {"order_id": order_id}).order_id)))


def _page(page: queries.Page[Row], convert: Callable[[Sequence[Row]], list[Node]]) -> Page[Node]:
    end = cursor_of(page.rows[-1]) if page.rows else None
    return Page(nodes=convert(page.rows), page_info=PageInfo(end_cursor=end, has_next_page=page.more))
