"""The order on DBOS Transact: a workflow whose steps are transactions of a data source in the same database.

``python -m bench.compare.sagas.dbos_peer queue NUMBER`` is a worker that takes workflows from the queue that the driver
fills; ``direct NUMBER`` is one that starts those that it is told of itself; ``migrate 0`` makes DBOS's tables.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dbos import DBOS, DBOSClient, SQLAlchemyDatasource

from bench.compare.ledger import EndedOrders
from bench.compare.place import Place, lines
from bench.compare.sagas.common import ended_orders
from bench.compare.work import STEPS, Order, RequestError, act, undo

NAME = "bench"
QUEUE = "orders"
WORKFLOW = "order"

POLLING_SECONDS = 0.02
THREADS = 8
"""Workflows that a worker runs at the same time."""


def make_workflow(database_url: str) -> Callable[[Order], str]:
    """Return the order as a workflow: plain Python, with the undoing in an except clause."""
    source = SQLAlchemyDatasource.create(
        database_url, engine_kwargs={"pool_size": THREADS, "isolation_level": "READ COMMITTED"}
    )

    def in_transaction(name: str, do: Callable[..., None], step: str, order: Order) -> None:
        def run() -> None:
            connection = source.sql_session().connection()

            def execute(sql: str, parameters: Mapping[str, Any]) -> int:
                return int(connection.exec_driver_sql(sql, dict(parameters)).rowcount)

            do(step, order, execute)

        # as all others; its default is SERIALIZABLE
        source.run_tx_step({"name": name, "isolation_level": "READ COMMITTED"}, run)

    def place_order(order: Order) -> str:
        done: list[str] = []
        try:
            for step in STEPS:
                in_transaction(step, act, step, order)
                done.append(step)
        except RequestError:
            for step in reversed(done):
                in_transaction(f"undo_{step}", undo, step, order)
            return "undone"
        return "completed"

    workflow: Callable[[Order], str] = DBOS.workflow(name=WORKFLOW)(place_order)
    return workflow


class Driver:
    """Puts workflows into the queue, from outside."""

    def __init__(self, client: Any, ended: EndedOrders) -> None:
        self.ended = ended.count
        self._client = client

    def start(self, order: Order) -> None:
        """Start one workflow."""
        options = {"workflow_name": WORKFLOW, "queue_name": QUEUE, "workflow_id": order["order_id"]}
        self._client.enqueue(options, order)


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    client = DBOSClient(system_database_url=place.database_url, application_name=NAME)
    try:
        with ended_orders(place) as ended:
            yield Driver(client, ended)
    finally:
        client.destroy()


def launch(place: Place, executor: str, queues: list[str]) -> Callable[[Order], str]:
    """Launch DBOS in this process; returns the workflow."""
    DBOS(
        config={
            "name": NAME,
            "system_database_url": place.database_url,
            "executor_id": executor,
            "application_version": "1",
            "log_level": "WARNING",
            "max_executor_threads": THREADS,
            "sys_db_pool_size": THREADS + 4,
        }
    )
    workflow = make_workflow(place.database_url)
    DBOS.listen_queues(queues)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=THREADS, polling_interval_sec=POLLING_SECONDS)
    return workflow


def main() -> None:
    """Work until somebody ends the process."""
    way, number = sys.argv[1:]
    place = Place.here()
    workflow = launch(place, number, [QUEUE] if way == "queue" else [])
    if way != "migrate":
        with lines(place, int(number)) as handed:
            for line in handed:
                DBOS.start_workflow(workflow, json.loads(line))
    DBOS.destroy()


if __name__ == "__main__":
    main()
