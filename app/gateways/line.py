"""The line to a gateway: how long its answers take, and how long they are waited for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import DatabaseUnavailable, StepUnavailable


@dataclass(frozen=True)
class Line:
    """Somebody else's system is far away and takes its time; the caller waits for ``timeout`` seconds, and no longer.

    ``latency`` is how long an answer takes from the call on, ``stopping`` is set when the process is asked to end.
    """

    timeout: float
    latency: float
    stopping: threading.Event

    @contextmanager
    def call(self) -> Iterator[None]:
        """Have the gateway do the block's work, and its answer, be it yes or no, arrive when it is due.

        Raises StepUnavailable, with the work done, when the answer is due after the timeout. A DatabaseUnavailable
        passes at once: the call did not reach the gateway, or its outcome is unknown: there is no answer to wait for.
        """
        began = time.monotonic()
        reached = True
        try:
            yield
        except DatabaseUnavailable:
            reached = False
            raise
        finally:
            # after the work: while an answer is under way nobody knows that the money has moved
            if reached and self.latency:
                self._wait(began)

    def _wait(self, began: float) -> None:
        awaited = min(self.latency, self.timeout)
        if self.stopping.wait(max(0.0, began + awaited - time.monotonic())):
            raise StepUnavailable("the process is stopping, and does not wait for the gateway's answer")
        if self.latency > self.timeout:
            raise StepUnavailable(f"the gateway did not answer within {self.timeout:g} s")
