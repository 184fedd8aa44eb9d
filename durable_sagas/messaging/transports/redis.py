"""Kombu's transport for Redis, with validation of list items before kombu handles them.

A RabbitMQ queue holds only messages. A Redis list holds anything that a client pushes; an item that is not an envelope
of kombu's raises inside its event loop and ends the worker.
"""

import logging
from base64 import b64decode
from queue import Empty
from typing import Annotated, Any, Literal

from kombu.transport import redis
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from durable_sagas.errors import format_error
from durable_sagas.messaging.transports.compression import VirtualMessage

logger = logging.getLogger(__name__)


def _base64(text: str) -> str:
    b64decode(text)
    return text


class _DeliveryInfo(BaseModel):
    exchange: str
    routing_key: str


class _Properties(BaseModel):
    delivery_tag: str
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]


class _Envelope(BaseModel):
    """The fields of an envelope that kombu reads without a type check."""

    model_config = ConfigDict(strict=True)

    body: Annotated[str, AfterValidator(_base64)]
    headers: dict[str, Any]
    properties: _Properties
    content_type: Annotated[str | None, Field(alias="content-type")]
    content_encoding: Annotated[str | None, Field(alias="content-encoding")]


class Channel(redis.Channel):
    """A channel that drops items that are not JSON. They have left their list when they are read."""

    Message = VirtualMessage

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in the types
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            _dropped("a list", error)
            raise Empty from error


class Transport(redis.Transport):
    """Kombu's transport, delivering only valid envelopes."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        try:
            _Envelope.model_validate(message)
        except ValidationError as error:
            _dropped(queue, error)
        else:
            super()._deliver(message, queue)


def _dropped(queue: str | None, error: Exception) -> None:
    logger.error(f"item dropped from {queue}: it is no message", extra={"reason": format_error(error)})
