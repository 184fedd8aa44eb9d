"""JSON for messages, by pydantic's core: kombu's own takes five times as long, a tenth of what a worker does in all."""

from typing import Any

from kombu.serialization import register
from kombu.utils.json import loads as load_marked
from pydantic_core import from_json, to_json

SERIALIZER = "plain-json"
"""For Celery: how what consists of texts, lists and objects is written. Whoever reads JSON reads it."""

_MARK = b'"__type__"'
"""By this kombu's JSON says of a value that it stands for something else, such as a time. Here nothing is sent so."""


def read(data: bytes | bytearray | memoryview | str) -> Any:
    """Return what a message says. Raises ValueError if it is no JSON."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    return load_marked(raw) if _MARK in raw else from_json(raw)


def write(value: Any) -> str:
    """Return the message that says this. Raises ValueError if JSON cannot."""
    return to_json(value).decode()


register(SERIALIZER, write, read, content_type="application/json", content_encoding="utf-8")
