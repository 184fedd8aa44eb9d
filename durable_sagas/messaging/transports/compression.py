"""Reject compressed messages.

Kombu decompresses a message before any consumer sees it, and a few hundred kilobytes may become gigabytes. Nothing here
sends compressed messages, so none is accepted: a consumer handles one as undecodable.
"""

from typing import Any

from kombu.exceptions import DecodeError
from kombu.transport import pyamqp, virtual


def _errors(headers: dict[str, Any] | None) -> list[Any] | None:
    """Return the errors of a message with these headers; kombu decompresses only a message without errors."""
    if not headers or not headers.get("compression"):
        return None
    return [(DecodeError, DecodeError("compressed messages are not accepted"), None)]


class AmqpMessage(pyamqp.Message):
    """A message from RabbitMQ."""

    def __init__(self, msg: Any, channel: Any = None, **options: Any) -> None:
        self.errors = _errors(msg.properties.get("application_headers"))
        super().__init__(msg, channel, **options)


class VirtualMessage(virtual.Message):
    """A message from Redis or from memory."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        self.errors = _errors(payload.get("headers"))
        super().__init__(payload, channel, **options)
