"""The same chain of four empty tasks on Celery as it comes: no setting but the broker. Also its workers' app."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from bench.compare.place import Place
from bench.compare.sagas.chain import Driver, empty, last
from bench.compare.sagas.common import BROKER_VARIABLE

app = Celery("default_chain", broker=os.environ.get(BROKER_VARIABLE))

TASKS = ["create", "reserve", "pay", "ship"]

for name in TASKS[:-1]:
    app.task(name=name)(empty)
app.task(name=TASKS[-1])(last)


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    yield Driver(app, TASKS, place)
