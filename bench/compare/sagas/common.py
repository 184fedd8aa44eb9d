"""What every contestant's module needs. No part of this project's engine: most of them run without it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from celery.signals import worker_ready

from bench.compare.ledger import EndedOrders
from bench.compare.place import VARIABLE, Place

BROKER_VARIABLE = "BENCH_BROKER_URL"
INGRESS_VARIABLE = "BENCH_RESTATE_INGRESS"


@worker_ready.connect
def say_ready(**_: object) -> None:
    """Tell whoever started this Celery worker that it takes messages."""
    if VARIABLE in os.environ:
        Place.here().say_ready()


@contextmanager
def ended_orders(place: Place) -> Iterator[EndedOrders]:
    """Count the orders that have ended as long as the block runs."""
    ended = EndedOrders(place.database_url)
    try:
        yield ended
    finally:
        ended.close()
