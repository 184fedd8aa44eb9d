"""Simulate the network to a gateway: latency and timeout."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import DatabaseUnavailable, StepUnavailable


@dataclass(frozen=True)
class SimulatedNetwork:
    """A simulated network: an answer takes ``latency`` seconds, the caller waits at most ``timeout`` seconds.

    ``latency`` counts from the call on. ``stopping`` is set when the process receives a signal to end.
    """

    timeout: float
    latency: float
    stopping: threading.Event

    @contextmanager
    def call(self) -> Iterator[None]:
        """Run the block as the gateway's work, and delay its result, or its exception, by the latency.

        Raises StepUnavailable, with the work done, if the answer is due after the timeout. A DatabaseUnavailable
        propagates at once: the call did not reach the gateway, or its outcome is unknown, so there is no answer to wait
        for.
        """
        began = time.monotonic()
        reached = True
        try:
            yield
        except DatabaseUnavailable:
            reached = False
            raise
        finally:
            # after the work: until the answer arrives the caller does not know that the money was moved
            if reached and self.latency:
                self._wait(began)

    def _wait(self, began: float) -> None:
        awaited = min(self.latency, self.timeout)
        if self.stopping.wait(max(0.0, began + awaited - time.monotonic())):
            raise StepUnavailable("the process is stopping, and does not wait for the gateway's answer")
        if self.latency > self.timeout:
            raise StepUnavailable(f"the gateway did not answer within {self.timeout:g} s")
