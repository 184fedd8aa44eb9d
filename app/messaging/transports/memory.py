"""The broker in this process's memory: kombu's, but a message wakes its consumer instead of waiting to be found.

Kombu's own looks for messages every so often: each hop of a saga waits half an interval for its message to be seen, and
a process with nothing to do is never at rest.
"""

import threading
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import memory, virtual

from app.messaging.transports.compression import VirtualMessage


class QueueNotifier:
    """Wakes whoever waits for something to happen in the queues. They are the process's, and so is it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rung = 0
        """How often it has rung: to be noted before one looks, so that no ring between look and wait is missed."""

    def ring(self) -> None:
        """Have everybody who waits look again."""
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    def wait(self, rung: int, seconds: float | None) -> bool:
        """Wait, at most so long, until it has rung more often than that; returns whether it has."""
        with self._condition:
            return self._condition.wait_for(lambda: self.rung > rung, seconds)


NOTIFIER = QueueNotifier()


class QoS(virtual.QoS):
    """Keeps the limit of messages under way, and rings when it no longer holds back the next."""

    _full = False

    def can_consume(self) -> bool:
        """Tell whether one more message may be taken."""
        if super().can_consume():
            return True
        # before the second look: an ack, which is another thread's, comes before that look or finds this said
        self._full = True
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        """Have done with a message."""
        super().ack(delivery_tag)
        self._made_room()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Have done with a message, or give it back."""
        super().reject(delivery_tag, requeue=requeue)
        self._made_room()

    def _made_room(self) -> None:
        if self._full:
            self._full = False
            NOTIFIER.ring()


class Channel(memory.Channel):
    """A channel whose messages are announced."""

    QoS = QoS
    Message = VirtualMessage

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        super()._put(queue, message, **options)
        NOTIFIER.ring()

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str | None = None, **kw: Any) -> None:
        super()._put_fanout(exchange, message, routing_key, **kw)
        NOTIFIER.ring()


class Transport(memory.Transport):
    """Kombu's transport, waiting where that one would sleep."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:  # noqa: ARG002  (kombu's)
        """Deliver one message. Raises TimeoutError if none comes in time, or the connection is closed meanwhile."""
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
        """Close the channels, and have done with waiting for messages of theirs."""
        super().close_connection(connection)
        NOTIFIER.ring()
