"""What workers report of their queues, for tests that run their tasks in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from app.sagas import sagas

PROCESS = "00000000-0000-7000-8000-000000000001"


@contextmanager
def reporting() -> Iterator[None]:
    """Note in the block, as a worker does, what is served; it is written by ``sagas.report_progress()``."""
    served = sagas.engine.served
    with (
        patch.object(served, "_start_thread", lambda: None),
        patch.object(served, "_process_id", lambda: PROCESS),
    ):
        served.reset()
        served.reports = True
        yield
        served.reset()


def forget() -> None:
    """Reset what was noted, as in a process that has just started."""
    served = sagas.engine.served
    served.reset()
    served.reports = True
