"""Encode and decode pagination cursors: the position of the last row of a page, opaque to clients."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import TypeVar

from app.errors import Invalid
from durable_sagas.ids import is_uuid
from durable_sagas.models import SagaInstance
from tasks.inventory import Book, Category
from web.fields import is_storable
from web.json_body import json_value
from workflows.read_side.queries import OrderView, Page

Listed = Book | Category | OrderView | SagaInstance
Row = TypeVar("Row", bound=Listed)

MAX_LENGTH = 400
"""The maximum length of a cursor; the longest position of any list takes half of it."""


def encode(*position: str) -> str:
    """Return the cursor of a position."""
    return urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def cursor_of(row: Listed) -> str:
    """Return the cursor of a row's position in its list."""
    if isinstance(row, OrderView):
        return encode(row.order.created_at.isoformat(), row.order.id)
    return encode(row.book_id if isinstance(row, Book) else row.id)


def next_cursor(page: Page[Row]) -> str | None:
    """Return the cursor with which a list continues after a page; None if it ends there."""
    return cursor_of(page.rows[-1]) if page.more else None


def text_position(cursor: str | None) -> str | None:
    """Return the id that a cursor encodes. Raises Invalid."""
    return _decode(cursor, 1)[0] if cursor else None


def uuid_position(cursor: str | None) -> str | None:
    """Return the UUID that a cursor encodes. Raises Invalid."""
    position = text_position(cursor)
    if position is not None and not is_uuid(position):
        raise _invalid()
    return position


def time_position(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the time and the id that a cursor encodes. Raises Invalid."""
    if not cursor:
        return None
    moment, identifier = _decode(cursor, 2)
    try:
        return datetime.fromisoformat(moment).astimezone(UTC), identifier
    except (ValueError, OverflowError) as error:
        raise _invalid() from error


def _decode(cursor: str, length: int) -> list[str]:
    if len(cursor) > MAX_LENGTH:
        raise _invalid()
    try:
        position = json_value(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise _invalid() from error
    whole = isinstance(position, list) and len(position) == length
    if not whole or not all(isinstance(part, str) and is_storable(part) for part in position):
        raise _invalid()
    return list(position)


def _invalid() -> Invalid:
    return Invalid("the cursor is not one that this list has given out", field="cursor")
