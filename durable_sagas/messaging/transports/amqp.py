"""Kombu's transport for RabbitMQ with fewer system calls.

By default a connection makes one system call for every message that it writes, and seven for every one that it reads.
For batches this took a worker as long as the transactions.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import kombu
from amqp.transport import TCPTransport
from kombu.transport import pyamqp

from durable_sagas.messaging.transports.compression import AmqpMessage

logger = logging.getLogger(__name__)

_HEADER_BYTES = 7
"""The header of a frame: type, channel and length; one more octet ends the frame."""

READ_AHEAD_BYTES = 16384
"""About ten messages; the rest of the buffer is copied for each of them."""


class BufferedWriter:
    """Writes a connection's frames at once, or buffers them while it is held."""

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write = write
        self._holds = False
        self.waiting: list[bytes] = []
        """The buffered frames."""

    def __call__(self, frame: bytes | memoryview) -> None:
        """Write a frame, or buffer it."""
        if self._holds:
            self.waiting.append(bytes(frame))  # a view of a buffer that the next frame overwrites
        else:
            self._write(frame)

    def hold(self) -> None:
        """Start buffering."""
        self._holds = True

    def flush(self) -> None:
        """Write all buffered frames in one call. Raises the connection's errors."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            self._write(b"".join(waiting))

    def drop(self) -> None:
        """Discard the buffered frames."""
        self.waiting.clear()

    def release(self) -> None:
        """Write all buffered frames, and stop buffering."""
        self._holds = False
        self.flush()


class Socket(TCPTransport):
    """A connection's socket that can read ahead. Without TLS, which has buffers of its own."""

    reads_ahead = False

    def _setup_transport(self) -> None:
        super()._setup_transport()  # type: ignore[misc]  # not in the types
        assert self.sock is not None  # it has just been connected
        receive = self.sock.recv
        self._quick_recv = lambda size: receive(max(size, READ_AHEAD_BYTES) if self.reads_ahead else size)


class PublishBatch:
    """The batch of a producer: see ``kombu.Producer.batch``."""

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel
        self._held: BufferedWriter = channel.connection.held
        self._held.hold()

    def publish(self, message: Any, **options: Any) -> Any:
        """Add a message to the batch."""
        return self.channel.basic_publish(message, **options)

    def flush(self) -> None:
        """Send the batch."""
        self._held.flush()

    def discard(self) -> None:
        """Discard the batch."""
        self._held.drop()

    def close(self) -> None:
        """Send the rest, and stop batching."""
        self._held.release()


class Channel(pyamqp.Channel):
    """A channel that supports batches of messages."""

    Message = AmqpMessage

    def create_publish_batch(self, max_size: int) -> PublishBatch:  # noqa: ARG002  (kombu's; a socket takes any size)
        """Return a new batch."""
        return PublishBatch(self)


class Connection(pyamqp.Connection):
    """A connection whose writes can be buffered."""

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
        """Return the connection's socket transport."""
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
            raise TimeoutError  # a producer polls for errors of the broker before each message: once per batch will do
        if not looks:
            self.held.flush()  # the caller waits for a reply, so the request must be sent
        # an event loop polls until nothing is left; other callers leave to it what they do not wait for
        self.transport.reads_ahead = looks
        super().drain_events(timeout)
        if looks:
            self._take_what_was_read()

    def _take_what_was_read(self) -> None:
        """Deliver every message that was read: the event loop is not notified of data that has left the socket."""
        with suppress(TimeoutError):  # the last one may be incomplete
            while self.connected and _begins_with_a_frame(self.transport._read_buffer):
                super().drain_events(0)

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read a frame, without a system call if it is already buffered."""
        if _begins_with_a_frame(self.transport._read_buffer):
            timeout = None
        return super().blocking_read(timeout)


def _begins_with_a_frame(read: bytes) -> bool:
    return len(read) >= _HEADER_BYTES and len(read) > _HEADER_BYTES + int.from_bytes(read[3:_HEADER_BYTES], "big")


_IMPLEMENTS = pyamqp.Transport.implements.extend(batch_publish=True)


class Transport(pyamqp.Transport):
    """Kombu's transport, with these connections."""

    Connection = Connection
    implements = _IMPLEMENTS


class TlsTransport(pyamqp.SSLTransport):
    """The transport for TLS, whose sockets have buffers of their own: nothing is read ahead."""

    Connection = Connection
    implements = _IMPLEMENTS


def is_buffered(connection: kombu.Connection | None) -> bool:
    """Return whether a connection's writes can be buffered, and it is connected."""
    # the property would reconnect
    return connection is not None and bool(connection.connected) and isinstance(connection.connection, Connection)


def ack_together(connection: kombu.Connection | None) -> AbstractContextManager[None]:
    """Send the acknowledgements of the block together when it ends, if the connection is one to RabbitMQ."""
    made = connection.connection if connection and connection.connected else None  # the property would reconnect
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
            # as Celery does when an acknowledgement fails; its event loop detects the broken connection
            logger.warning("acknowledgements not sent, the messages will be delivered again", extra={"reason": error})
