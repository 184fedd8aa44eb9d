"""Identifiers."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> str:
    """Return a new UUID (version 7, RFC 9562), so that keys grow with time and indexes stay compact."""
    return str(uuid7())


def is_uuid(text: object) -> bool:
    """Tell whether something from outside may be looked up in a column of UUIDs."""
    if not isinstance(text, str):
        return False
    try:
        return str(UUID(text)) == text  # no other spelling: gateways are told an id as it came
    except ValueError:
        return False
