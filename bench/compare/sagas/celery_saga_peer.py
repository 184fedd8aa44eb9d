"""The order on celery-saga: a Celery chain with an error callback, its state in Redis. Also its workers' Celery app."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg2
from celery import Celery
from celery_saga import PermanentFailure, Saga, set_default_backend
from celery_saga.backends import RedisSagaBackend

from bench.compare.ledger import EndedOrders
from bench.compare.place import VARIABLE, Place
from bench.compare.sagas.chain import DELIVERY
from bench.compare.sagas.common import BROKER_VARIABLE, ended_orders
from bench.compare.work import STEPS, UNDOINGS, Order, RequestError, act, undo

QUEUE = "celery_saga"

app = Celery("celery_saga_peer", broker=os.environ.get(BROKER_VARIABLE))
app.set_default()  # the library's tasks are shared ones: each of the driver's threads takes them from the default app
app.conf.update(DELIVERY, task_default_queue=QUEUE)

if VARIABLE in os.environ:
    set_default_backend(RedisSagaBackend(url=Place.here().state_url))


@cache
def _connection() -> Any:
    return psycopg2.connect(Place.here().database_url)


def _execute(sql: str, parameters: Mapping[str, Any]) -> int:
    with _connection().cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def _action(step: str) -> Any:
    def run(**order: Any) -> Order:
        told = Order(order_id=order["order_id"], book_id=order["book_id"], amount=order["amount"], fails=order["fails"])
        try:
            with _connection():
                act(step, told, _execute)
        except RequestError as error:
            raise PermanentFailure(str(error)) from error
        return told  # what its compensation is told

    return app.task(name=f"peer.{step}")(run)


def _compensation(step: str) -> Any:
    def run(compensation_data: Order) -> None:
        with _connection():
            undo(step, compensation_data, _execute)

    return app.task(name=f"peer.undo_{step}")(run)


ORDER = Saga("order")
for name in STEPS:
    ORDER.add_step(
        _action(name),
        compensate=_compensation(name) if name in UNDOINGS else None,
        no_compensation=name not in UNDOINGS,
    )


class Driver:
    """Starts sagas."""

    def __init__(self, ended: EndedOrders) -> None:
        self.ended = ended.count

    def start(self, order: Order) -> None:
        """Start one saga."""
        ORDER.run(**order)


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    with ended_orders(place) as ended:
        yield Driver(ended)
