"""Identifiers."""

from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> str:
    """Return a new UUID (version 7, RFC 9562), so that keys grow with time and indexes stay compact."""
    return str(uuid7())


def first_id_of(moment: datetime) -> str:
    """Return the lowest UUID of version 7 that could be made at a moment: what was made before has a lower one."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"


def is_uuid(text: object) -> bool:
    """Tell whether something from outside may be looked up in a column of UUIDs."""
    if not isinstance(text, str):
        return False
    try:
        return str(UUID(text)) == text  # no other spelling: gateways are told an id as it came
    except ValueError:
        return False
