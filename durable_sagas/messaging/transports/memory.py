"""Kombu's in-memory transport, but a message wakes its consumer instead of being found by polling.

With kombu's polling each hop of a saga waits half an interval for its message to be found, and an idle process is never
at rest.
"""

import threading
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import memory, virtual

from durable_sagas.messaging.transports.compression import VirtualMessage


class QueueNotifier:
    """Wakes threads that wait for a change of the queues. Like the queues, there is one per process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rung = 0
        """Number of notifications. Read it before checking the queues, so that none before the wait is missed."""

    def ring(self) -> None:
        """Wake all waiting threads."""
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    def wait(self, rung: int, seconds: float | None) -> bool:
        """Wait up to ``seconds`` for a notification after the ``rung``-th; return whether there was one."""
        with self._condition:
            return self._condition.wait_for(lambda: self.rung > rung, seconds)


NOTIFIER = QueueNotifier()


class QoS(virtual.QoS):
    """Enforces the prefetch limit, and notifies when it no longer blocks the next message."""

    _full = False

    def can_consume(self) -> bool:
        """Return whether one more message may be delivered."""
        if super().can_consume():
            return True
        # set before the second check: an ack in another thread either precedes that check or sees the flag
        self._full = True
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        super().ack(delivery_tag)
        self._made_room()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message, or requeue it."""
        super().reject(delivery_tag, requeue=requeue)
        self._made_room()

    def _made_room(self) -> None:
        if self._full:
            self._full = False
            NOTIFIER.ring()


class Channel(memory.Channel):
    """A channel that notifies consumers of new messages."""

    QoS = QoS
    Message = VirtualMessage

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        super()._put(queue, message, **options)
        NOTIFIER.ring()

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str | None = None, **kw: Any) -> None:
        super()._put_fanout(exchange, message, routing_key, **kw)
        NOTIFIER.ring()


class Transport(memory.Transport):
    """Kombu's transport, waiting for a notification instead of sleeping."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:  # noqa: ARG002  (kombu's)
        """Deliver one message. Raises TimeoutError if none arrives in time, or the connection is closed meanwhile."""
        give_up = None if timeout is None else monotonic() + timeout
        while True:
            rung = NOTIFIER.rung
            try:
                self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr]  # made with the transport
            except Empty:
                left = None if give_up is None else max(0.0, give_up - monotonic())
                if not self.channels or not NOTIFIER.wait(rung, left):
                    raise TimeoutError from None
            else:
                return

    def close_connection(self, connection: Any) -> None:
        """Close the channels, and end the wait for their messages."""
        super().close_connection(connection)
        NOTIFIER.ring()
