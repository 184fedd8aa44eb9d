"""Identifiers."""

from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> str:
    """Return a new UUID (version 7, RFC 9562), so that keys grow with time and indexes stay compact."""
    return str(uuid7())


def first_id_of(moment: datetime) -> str:
    """Return the lowest UUID of version 7 for a moment: ids created earlier are lower."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"


def is_uuid(text: object) -> bool:
    """Return whether an untrusted value is a UUID in canonical form, and so may be looked up in a UUID column."""
    if not isinstance(text, str):
        return False
    try:
        return str(UUID(text)) == text  # canonical spelling only: gateways get an id as received
    except ValueError:
        return False
