"""Those whose workers are Celery's: this project's engine, the empty chains, and celery-saga.

How the workers are started stands in one place: ``WORKER``.
"""

import sys
from collections.abc import Mapping, Sequence

from bench.compare.contestants.contestant import Contestant, Processes, packages
from bench.compare.place import Place
from bench.compare.sagas.common import BROKER_VARIABLE
from bench.compare.work import Outcome

WORKER: tuple[str, ...] = ("-P", "solo", "--prefetch-multiplier", "64")
"""The options of the worker processes, the same for all; each consumes all queues."""

ENGINE_QUEUES = "orders,inventory,payments,shipping,orchestrator"
CHAIN_QUEUES = "orders,inventory,payments,shipping"

BOTH = (Outcome.COMPLETED, Outcome.UNDONE)


def broker_url(place: Place, broker: str) -> str:
    """Return where this broker is."""
    return place.rabbitmq_url if broker == "rabbitmq" else place.redis_url


def start_workers(
    processes: Processes, module: str, count: int, options: Sequence[str], variables: Mapping[str, str]
) -> None:
    """Start Celery workers and wait until they take messages."""
    for number in range(count):
        name = f"{module.rpartition('.')[2]}-{number}"
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "-n", f"{name}@%h", "-l", "WARNING"]
        processes.start(name, [*command, *options], **variables)
    processes.wait_until_ready(count)


def engine(pattern: str, broker: str, *, events: bool, outcomes: tuple[Outcome, ...]) -> Contestant:
    """Return this project's engine, run in one of its two ways."""
    module = f"bench.compare.sagas.{pattern}"
    options = [*WORKER, "-Q", ENGINE_QUEUES, *(["-E"] if events else [])]

    def variables(place: Place) -> dict[str, str]:
        return {
            "DATABASE_URL": place.database_url,
            "BROKER_URL": broker_url(place, broker),
            "FAULT_INJECTION": "0",
            "LOG_LEVEL": "WARNING",
        }

    def launch(processes: Processes) -> None:
        place = processes.place
        start_workers(processes, module, place.processes, options, variables(place))

    return Contestant(
        name=f"{pattern}, {broker}{', task events' if events else ''}",
        driver=module,
        launch=launch,
        settings={"broker": broker, "worker": " ".join(options), "driver": "psycopg2", "sweep": "not running"},
        database="cloudmart",
        driver_variables=variables,
        outcomes=outcomes,
    )


def chain(broker: str) -> Contestant:
    """Return the chain of empty tasks on the same broker, workers and settings of delivery."""
    options = [*WORKER, "-Q", CHAIN_QUEUES]

    def launch(processes: Processes) -> None:
        place = processes.place
        start_workers(processes, "bench.compare.sagas.chain", place.processes, options, driver_variables(place))

    def driver_variables(place: Place) -> dict[str, str]:
        return {BROKER_VARIABLE: broker_url(place, broker)}

    return Contestant(
        name=f"empty chain, {broker}",
        driver="bench.compare.sagas.chain",
        launch=launch,
        settings={"broker": broker, "worker": " ".join(options), "delivery": "acks late, results ignored, JSON"},
        driver_variables=driver_variables,
        checked=False,
    )


def default_chain() -> Contestant:
    """Return the chain of empty tasks on Celery as it comes."""

    def launch(processes: Processes) -> None:
        place = processes.place
        options = ["-c", str(place.processes)]
        start_workers(processes, "bench.compare.sagas.default_chain", 1, options, driver_variables(place))

    def driver_variables(place: Place) -> dict[str, str]:
        return {BROKER_VARIABLE: place.redis_url}

    return Contestant(
        name="empty chain, default Celery",
        driver="bench.compare.sagas.default_chain",
        launch=launch,
        settings={"broker": "redis", "worker": "-c 2 (prefork)", "results": "no backend", "other settings": "none"},
        driver_variables=driver_variables,
        checked=False,
    )


def celery_saga() -> Contestant:
    """Return celery-saga, its state in Redis, on the faster broker and the same workers."""
    options = [*WORKER, "-Q", "celery_saga"]

    def driver_variables(place: Place) -> dict[str, str]:
        return {BROKER_VARIABLE: place.rabbitmq_url}

    def launch(processes: Processes) -> None:
        place = processes.place
        module = "bench.compare.sagas.celery_saga_peer"
        start_workers(processes, module, place.processes, options, driver_variables(place))

    return Contestant(
        name="celery-saga",
        driver="bench.compare.sagas.celery_saga_peer",
        launch=launch,
        settings={
            "broker": "rabbitmq",
            "state": "Redis, which keeps nothing on disk",
            "worker": " ".join(options),
            "delivery": "acks late, results ignored, JSON",
            "driver": "psycopg2",
        },
        missing=packages("celery_saga"),
        driver_variables=driver_variables,
        outcomes=BOTH,
    )
