"""The order on Restate: a handler whose steps are ``ctx.run``, in the server's journal. Hypercorn serves ``app``.

The server keeps its journal on its own disk, so a step's transaction and its record are two things: a step that was
done when its worker died is done again, and would have to bear that.
"""

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import restate

from bench.compare.ledger import EndedOrders
from bench.compare.place import VARIABLE, Place
from bench.compare.sagas.common import INGRESS_VARIABLE, ended_orders
from bench.compare.work import STEPS, Order, RequestError, act, undo

SERVICE = "order"

_local = threading.local()


def _connection() -> Any:
    """Return this thread's connection: steps that are no coroutines run in the event loop's pool of threads."""
    if not hasattr(_local, "connection"):
        _local.connection = psycopg2.connect(Place.here().database_url)
    return _local.connection


def _in_transaction(do: Callable[..., None], step: str, order: Order) -> None:
    with _connection() as connection, connection.cursor() as cursor:

        def execute(sql: str, parameters: Mapping[str, Any]) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        try:
            do(step, order, execute)
        except RequestError as error:
            raise restate.TerminalError(str(error)) from error


async def place_order(ctx: restate.Context, order: Order) -> str:
    """Run the steps, or undo those that were before the one that is refused."""
    done: list[str] = []
    try:
        for step in STEPS:
            await ctx.run_typed(step, _in_transaction, restate.RunOptions(), act, step, order)
            done.append(step)
    except restate.TerminalError:
        for step in reversed(done):
            await ctx.run_typed(f"undo_{step}", _in_transaction, restate.RunOptions(), undo, step, order)
        return "undone"
    return "completed"


order_service = restate.Service(SERVICE)
order_service.handler("place")(place_order)
app = restate.app([order_service])

if VARIABLE in os.environ and INGRESS_VARIABLE not in os.environ:
    Place.here().say_ready()  # in a worker; the driver knows the ingress


class Driver:
    """Sends orders to the server's ingress, on a connection for each thread."""

    def __init__(self, ended: EndedOrders, ingress: str) -> None:
        self.ended = ended.count
        self._address = urlsplit(ingress)
        self._local = threading.local()

    def start(self, order: Order) -> None:
        """Start one saga; the server has it when it answers."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._address.netloc)
        connection: http.client.HTTPConnection = self._local.connection
        connection.request("POST", f"/{SERVICE}/place/send", json.dumps(order), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in {200, 202}:
            raise RuntimeError(f"Restate answered {answer.status}: {said.decode()}")


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    with ended_orders(place) as ended:
        yield Driver(ended, os.environ[INGRESS_VARIABLE])
