"""RabbitMQ as the broker: kombu's transport, with fewer calls to the system.

By itself a connection asks the system once for every message that it writes, and seven times for every one that it
reads. Where many are written or read together, that took a worker as long as their transactions.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import kombu
from amqp.transport import TCPTransport
from kombu.transport import pyamqp

from app.messaging.transports.compression import AmqpMessage

logger = logging.getLogger(__name__)

_HEADER_BYTES = 7
"""Of a frame: its type, its channel, and how long it is; an octet ends it."""

READ_AHEAD_BYTES = 16384
"""Some ten messages; what is left of it is copied with each."""


class BufferedWriter:
    """What a connection writes: at once, or all of it together while it is held."""

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write = write
        self._holds = False
        self.waiting: list[bytes] = []
        """What has been kept."""

    def __call__(self, frame: bytes | memoryview) -> None:
        """Write a frame, or keep it."""
        if self._holds:
            self.waiting.append(bytes(frame))  # it is a view of a buffer that the next frame overwrites
        else:
            self._write(frame)

    def hold(self) -> None:
        """Keep what is written from now on."""
        self._holds = True

    def flush(self) -> None:
        """Write all that was kept, by one call. Raises what the connection does when it is broken."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            self._write(b"".join(waiting))

    def drop(self) -> None:
        """Forget what was kept."""
        self.waiting.clear()

    def release(self) -> None:
        """Write all that was kept, and keep no more."""
        self._holds = False
        self.flush()


class Socket(TCPTransport):
    """A connection's socket. Without TLS, which has buffers of its own."""

    reads_ahead = False

    def _setup_transport(self) -> None:
        super()._setup_transport()  # type: ignore[misc]  # the types of amqp do not know it
        assert self.sock is not None  # it has just been connected
        receive = self.sock.recv
        self._quick_recv = lambda size: receive(max(size, READ_AHEAD_BYTES) if self.reads_ahead else size)


class PublishBatch:
    """What a producer sends together: see ``kombu.Producer.batch``."""

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel
        self._held: BufferedWriter = channel.connection.held
        self._held.hold()

    def publish(self, message: Any, **options: Any) -> Any:
        """Send a message with the others."""
        return self.channel.basic_publish(message, **options)

    def flush(self) -> None:
        """Send all that waits."""
        self._held.flush()

    def discard(self) -> None:
        """Send nothing of what waits."""
        self._held.drop()

    def close(self) -> None:
        """Have messages sent at once again."""
        self._held.release()


class Channel(pyamqp.Channel):
    """A channel whose messages may be sent together."""

    Message = AmqpMessage

    def create_publish_batch(self, max_size: int) -> PublishBatch:  # noqa: ARG002  (kombu's; a socket takes any size)
        """Return what keeps messages, to be sent together."""
        return PublishBatch(self)


class Connection(pyamqp.Connection):
    """A connection that can be held."""

    Channel = Channel
    held: BufferedWriter

    def Transport(  # noqa: N802  (the base class's name)
        self,
        host: str,
        connect_timeout: float | None,
        ssl: bool | dict[str, Any] = False,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Return the connection's way to the system."""
        if ssl:
            made = super().Transport(host, connect_timeout, ssl, *args, **options)
        else:
            made = Socket(host, connect_timeout, *args, **options)
        self.held = BufferedWriter(made.write)
        made.write = self.held
        return made

    def drain_events(self, timeout: float | None = None) -> None:
        """Read until a message is complete. Raises TimeoutError if there is none in time."""
        looks = timeout == 0
        if looks and self.held.waiting:
            raise TimeoutError  # a producer looks before each message whether the broker minds: once for all is enough
        if not looks:
            self.held.flush()  # who waits for an answer wants the question sent
        # an event loop looks until there is nothing left; others leave to it what they do not wait for
        self.transport.reads_ahead = looks
        super().drain_events(timeout)
        if looks:
            self._take_what_was_read()

    def _take_what_was_read(self) -> None:
        """Take every message that is here: the system would not tell the event loop of one that it has given out."""
        with suppress(TimeoutError):  # of the last one there may be a part only
            while self.connected and _begins_with_a_frame(self.transport._read_buffer):
                super().drain_events(0)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read a frame; without asking the system if it is here already."""
        if _begins_with_a_frame(self.transport._read_buffer):
            timeout = None
        return super().blocking_read(timeout)


def _begins_with_a_frame(read: bytes) -> bool:
    return len(read) >= _HEADER_BYTES and len(read) > _HEADER_BYTES + int.from_bytes(read[3:_HEADER_BYTES], "big")


_IMPLEMENTS = pyamqp.Transport.implements.extend(batch_publish=True)


class Transport(pyamqp.Transport):
    """Kombu's transport, with such connections."""

    Connection = Connection
    implements = _IMPLEMENTS


class TlsTransport(pyamqp.SSLTransport):
    """The same with TLS, whose sockets have buffers of their own: nothing is read ahead."""

    Connection = Connection
    implements = _IMPLEMENTS


def acked_together(connection: kombu.Connection | None) -> AbstractContextManager[None]:
    """Have what is acknowledged in the block leave together when it ends, if the connection is one to RabbitMQ."""
    made = connection.connection if connection and connection.connected else None  # asked for, it would connect again
    return _holding(made.held) if isinstance(made, Connection) else nullcontext()


@contextmanager
def _holding(writes: BufferedWriter) -> Iterator[None]:
    writes.hold()
    try:
        yield
    finally:
        try:
            writes.release()
        except OSError as error:
            # as Celery does when it cannot acknowledge a message; its loop finds the connection broken
            logger.warning("not acknowledged, so it will all be delivered again", extra={"reason": error})
