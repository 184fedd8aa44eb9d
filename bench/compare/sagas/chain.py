"""The floor of the messages: a chain of four empty tasks, on the queues of the services, delivered as the engine's are.

Also the Celery app of its workers. The last task tells that a chain has ended by a byte at the end of a file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, chain
from kombu import Queue

from bench.compare.place import Place
from bench.compare.sagas.common import BROKER_VARIABLE
from bench.compare.sagas.common import say_ready as say_ready
from bench.compare.work import Order

TASKS = {"orders.create": "orders", "inventory.reserve": "inventory", "payments.pay": "payments"}
LAST = {"shipping.ship": "shipping"}

DELIVERY: dict[str, Any] = {
    "task_ignore_result": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": False,
    "task_serializer": "json",
    "accept_content": ["json"],
    "broker_heartbeat": 20,
    "worker_hijack_root_logger": False,
}
"""How the engine has its messages delivered: see ``app.celery``, which is not imported, for it does more than that."""

_ends: list[int] = []


def empty(order_id: str) -> None:
    """Do nothing."""


def last(order_id: str) -> None:  # noqa: ARG001  (a task of the chain is given the id)
    """Do nothing but add a byte to the file; what several processes append is not lost."""
    if not _ends:
        _ends.append(os.open(ends_file(Place.here()), os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    os.write(_ends[0], b".")


def ends_file(place: Place) -> str:
    """Return where the bytes are counted."""
    return str(place.path / "ended")


class Driver:
    """Starts chains."""

    def __init__(self, made: "Celery[Any]", tasks: list[str], place: Place) -> None:
        self._app = made
        self._tasks = tasks
        self._file = ends_file(place)
        self._before = 0
        self._before = self.ended()

    def start(self, order: Order) -> None:
        """Start one chain."""
        told = {"order_id": order["order_id"]}
        chain(*(self._app.signature(task, kwargs=told, immutable=True) for task in self._tasks)).apply_async()

    def ended(self) -> int:
        """Return how many have ended since the driver was opened."""
        try:
            return os.stat(self._file).st_size - self._before  # noqa: PTH116  (a look that costs nothing)
        except FileNotFoundError:
            return 0


app = Celery("chain", broker=os.environ.get(BROKER_VARIABLE))
app.conf.update(
    DELIVERY,
    task_queues=[Queue(queue) for queue in (TASKS | LAST).values()],
    task_routes={task: {"queue": queue} for task, queue in (TASKS | LAST).items()},
)
for name in TASKS:
    app.task(name=name)(empty)
for name in LAST:
    app.task(name=name)(last)


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    yield Driver(app, [*TASKS, *LAST], place)
