"""Identifiers."""

import os
import re
import threading
import time
from datetime import datetime
from uuid import UUID

_CANONICAL = re.compile("[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

_lock = threading.Lock()
_last = (0, 0)
"""The milliseconds and the counter of the last id."""


def uuid7() -> UUID:
    """Return a new UUID (version 7, RFC 9562); those of one process increase, by a counter within a millisecond."""
    global _last
    milliseconds, random = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(9))
    with _lock:
        last, counter = _last
        if milliseconds > last:
            _last = milliseconds, random >> 62 & 0x3FF
        else:
            _last = last + (counter >= 0xFFF), (counter + 1) & 0xFFF  # also if the clock was set back
        milliseconds, counter = _last
    return UUID(int=milliseconds << 80 | 7 << 76 | counter << 64 | 2 << 62 | random & (1 << 62) - 1)


def new_id() -> str:
    """Return a new time-ordered UUID, so that keys grow with time and indexes stay compact."""
    return str(uuid7())


def first_id_of(moment: datetime) -> str:
    """Return the lowest UUID of version 7 for a moment: ids created earlier are lower."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"


def is_uuid(text: object) -> bool:
    """Return whether an untrusted value is a UUID in canonical form, and so may be looked up in a UUID column."""
    # in no other spelling: gateways get an id as received
    return isinstance(text, str) and _CANONICAL.fullmatch(text) is not None
