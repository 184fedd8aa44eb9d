"""What belongs to the rows of one page: read for all of them when it is first asked for of one, never row by row."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from app.events import StoredEvent
from app.saga.models import SagaInstance
from app.saga.timeline import HistoryEntry
from tasks.inventory import Book, Category
from workflows.read_side import batches
from workflows.read_side.queries import OrderView


class SagaNeighbours:
    """The sagas of one page, or of one page's orders."""

    def __init__(self, sagas: Sequence[SagaInstance]) -> None:
        self._sagas = sagas
        self._order_ids = [saga.aggregate_id for saga in sagas]

    @cached_property
    def operations(self) -> Mapping[str, Sequence[HistoryEntry]]:
        """What each saga did, by the saga's id."""
        return batches.operations(self._sagas)

    @cached_property
    def events(self) -> Mapping[str, Sequence[StoredEvent]]:
        """What was stated about each order, by the order's id."""
        return batches.events(self._order_ids)

    @cached_property
    def orders(self) -> Mapping[str, OrderView]:
        """The orders, by id."""
        return batches.orders(self._order_ids)


class BookNeighbours:
    """The books of one page."""

    def __init__(self, books: Sequence[Book]) -> None:
        self._books = books

    @cached_property
    def categories(self) -> Mapping[str, Category]:
        """The categories they are of, by id."""
        return batches.categories(book.category_id for book in self._books if book.category_id)
