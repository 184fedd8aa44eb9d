"""Load the related rows of a page in one batch, when they are first needed for one of its rows (no N+1 queries)."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from durable_sagas.models import SagaInstance, StoredEvent
from tasks.inventory import Book, Category
from workflows.read_side import queries
from workflows.read_side.queries import OrderView
from workflows.read_side.saga_history import HistoryEntry


class SagaLoader:
    """Loads the related rows of one page's sagas, or of the sagas of one page's orders."""

    def __init__(self, sagas: Sequence[SagaInstance]) -> None:
        self._sagas = sagas
        self._order_ids = [saga.aggregate_id for saga in sagas]

    @cached_property
    def operations(self) -> Mapping[str, Sequence[HistoryEntry]]:
        """The operations of each saga, by the saga's id."""
        return queries.operations_of_each(self._sagas)

    @cached_property
    def events(self) -> Mapping[str, Sequence[StoredEvent]]:
        """The events of each order, by the order's id."""
        return queries.events_of_each(self._order_ids)

    @cached_property
    def orders(self) -> Mapping[str, OrderView]:
        """The orders, by id."""
        return queries.orders_named(self._order_ids)


class BookLoader:
    """Loads the related rows of one page's books."""

    def __init__(self, books: Sequence[Book]) -> None:
        self._books = books

    @cached_property
    def categories(self) -> Mapping[str, Category]:
        """The books' categories, by id."""
        return queries.categories_named(book.category_id for book in self._books if book.category_id)
