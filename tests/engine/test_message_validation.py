"""How a worker validates a message before Celery handles it."""

import base64
import gzip
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message as AmqpContent
from kombu.exceptions import DecodeError
from kombu.message import Message

from app.celery import app as celery
from app.worker.consumer import MAX_BODY_BYTES, MAX_WAIT, check, use_own_clock
from durable_sagas.messaging.transports import amqp, memory, redis
from tests.testkit.forged import NOBODY, headed, task

BOMB = gzip.compress(b" " * 1_000_000)
SKEW = timedelta(seconds=40)
EXACT = timedelta(seconds=5)


def from_amqp(body: bytes, headers: dict[str, Any]) -> Message:
    content = AmqpContent(body, content_type="application/json", application_headers=headers)
    content.delivery_info = {"delivery_tag": 1}
    made: Message = amqp.Channel.Message(content)
    return made


def from_virtual(channel: Any, body: bytes, headers: dict[str, Any]) -> Message:
    payload = {
        "body": base64.b64encode(body).decode(),
        "headers": headers,
        "properties": {"delivery_tag": "1", "body_encoding": "base64"},
        "content-type": "application/json",
    }
    decoder = SimpleNamespace(decode_body=lambda text, _: base64.b64decode(text))
    made: Message = channel.Message(payload, channel=decoder)
    return made


@pytest.mark.parametrize("kind", ["application/x-gzip", "gzip", "zlib", "bzip2", "unheard-of"])
@pytest.mark.parametrize("broker", ["amqp", "redis", "memory"])
def test_what_is_compressed_stays_so_and_cannot_be_decoded(broker: str, kind: str) -> None:
    headers = {**(headed().headers or {}), "compression": kind}
    if broker == "amqp":
        message = from_amqp(BOMB, headers)
    else:
        message = from_virtual({"redis": redis, "memory": memory}[broker].Channel, BOMB, headers)

    body: Any = message.body
    assert body == BOMB
    with pytest.raises(DecodeError, match="not accepted"):
        message._reraise_error()


def message_with(**headers: Any) -> Message:
    good = headed(**headers)
    return from_amqp(good.body, dict(good.headers or {}))


def retried(wait: timedelta, ahead: timedelta = timedelta()) -> Message:
    """Return a message that is to wait, of a sender whose clock is so far ahead."""
    sent_at = datetime.now(UTC) + ahead
    return message_with(eta=(sent_at + wait).isoformat(), sent_at=sent_at.timestamp())


def test_a_body_that_is_longer_than_any_of_ours_is_refused_unread() -> None:
    long = task("inventory.reserve_stock", saga_id=NOBODY, embed={"more": "x" * MAX_BODY_BYTES})

    with pytest.raises(ValueError, match="more than 65536 bytes"):
        check(from_amqp(long.body, dict(long.headers or {})), celery)


@pytest.mark.parametrize("ahead", [-SKEW, timedelta(), SKEW])
def test_a_retry_waits_as_long_as_its_sender_said_whatever_the_senders_clock_says(ahead: timedelta) -> None:
    message = retried(timedelta(seconds=10), ahead)

    use_own_clock(message, check(message, celery))

    wanted_at = datetime.fromisoformat(message.headers["eta"])
    assert abs(wanted_at - datetime.now(UTC) - timedelta(seconds=10)) < EXACT


@pytest.mark.parametrize("wait", [MAX_WAIT + timedelta(seconds=1), timedelta(hours=23)])
def test_what_wants_to_wait_longer_than_anything_here_does_is_refused(wait: timedelta) -> None:
    with pytest.raises(ValueError, match="not wanted for another"):
        check(retried(wait), celery)


def test_nothing_expires() -> None:
    message = message_with(expires=(datetime.now(UTC) - SKEW).isoformat())

    use_own_clock(message, check(message, celery))

    assert "expires" not in message.headers
