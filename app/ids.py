"""Identifiers."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> str:
    """Return a new UUID (version 7, RFC 9562), so that keys grow with time and indexes stay compact."""
    return str(uuid7())


def is_uuid(text: str) -> bool:
    """Tell whether a text from outside may be looked up in a column of UUIDs."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
