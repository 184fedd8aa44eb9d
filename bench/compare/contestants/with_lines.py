"""Those whose workers are plain processes: the work without a saga, and DBOS Transact."""

import sys

from bench.compare.contestants.contestant import Contestant, Processes, packages
from bench.compare.contestants.with_celery import BOTH


def floor() -> Contestant:
    """Return the same transactions without anything around them."""

    def launch(processes: Processes) -> None:
        _start_workers(processes, "floor")

    return Contestant(
        name="transactions alone",
        driver="bench.compare.sagas.floor",
        launch=launch,
        settings={"driver": "psycopg2", "orders": "handed over by a pipe"},
        outcomes=BOTH,
    )


def dbos(way: str) -> Contestant:
    """Return DBOS Transact: its workflows enqueued from outside (``queue``), or started in its workers (``direct``)."""

    def launch(processes: Processes) -> None:
        _start_workers(processes, "dbos_peer", way)

    return Contestant(
        name="DBOS" if way == "queue" else "DBOS, started in its workers",
        driver=f"bench.compare.sagas.{'dbos_peer' if way == 'queue' else 'dbos_direct'}",
        launch=launch,
        settings={
            "workflows": "enqueued by DBOSClient" if way == "queue" else "DBOS.start_workflow in each worker",
            "steps": "SQLAlchemyDatasource.run_tx_step, READ COMMITTED",
            "driver": "psycopg 3 (it takes no other)",
            "system database": "the same as that of the work",
        },
        database="dbos",
        missing=packages("dbos"),
        outcomes=BOTH,
    )


def _start_workers(processes: Processes, module: str, *arguments: str) -> None:
    for number in range(processes.place.processes):
        command = [sys.executable, "-m", f"bench.compare.sagas.{module}", *arguments, str(number)]
        processes.start(f"{module}-{number}", command)
    processes.wait_until_ready(processes.place.processes)
