"""The shop as processes of this machine: one worker per service and as many as asked for of one of them.

They have a database of their own on the PostgreSQL of the tests, and a broker that is started for them.
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from celery import Celery
from celery.app.control import Control
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from app import runtime
from app.migrations import migrate
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import ROOT, Settings
from bench.scaling.shop import Shop
from bench.scaling.stack import NotUsable
from tests.testkit.private_servers import MissingServer, PrivateRabbitmq, PrivateRedis, folder_for_servers
from tests.testkit.processes import (
    end,
    free_port,
    kill_group,
    process_environment,
    role_commands,
    spawn,
    uninterrupted,
    wait_for,
)
from tests.testkit.servers import fresh_postgresql_database
from tests.testkit.shop import OPERATOR_TOKEN
from workflows import QUEUES
from workflows.seed_data import seed

BROKERS: dict[str, type[PrivateRabbitmq | PrivateRedis]] = {"rabbitmq": PrivateRabbitmq, "redis": PrivateRedis}
START_SECONDS = 60


class Processes:
    """A running shop; ``worker_options`` are added to the command line of every worker.

    Where it runs ``as_procfile``, its workers are started as the Procfile does it, and take no such options.
    """

    def __init__(
        self,
        broker: str,
        settings: Settings,
        folder: Path,
        worker_options: Sequence[str] = (),
        *,
        as_procfile: bool = False,
    ) -> None:
        self.name = "processes"
        self.url = f"http://127.0.0.1:{settings.port}"
        self.token = OPERATOR_TOKEN
        self._broker = broker
        self._settings = settings
        self._folder = folder
        self._worker_options = worker_options
        self._as_procfile = as_procfile
        # an app of its own: one that has spoken with a broker goes on with that one, and may be used for several shops
        self._celery = Celery(broker=settings.broker_url, set_as_current=False)
        # what a pool leaves behind when it is killed goes with the folder
        self._environment = {**process_environment(settings), "TMPDIR": str(folder)}
        self._workers: dict[str, list[subprocess.Popen[bytes]]] = {queue: [] for queue in QUEUES}
        self._others: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start every role once; returns when the web answers and every worker takes messages."""
        commands = role_commands(self._settings, web_workers=2)
        for role in ("web", "beat"):
            self._spawn(commands[role], role, self._others)
        for queue in QUEUES:
            self._start_worker(queue)
        self._wait_for_workers()
        shop = Shop(self.url, self.token)
        wait_for(f"the web to answer, see {self._folder}", shop.ready, START_SECONDS)

    def scale(self, service: str, replicas: int) -> None:
        """Start or end workers of a service; one that is ended finishes what it is doing."""
        running = self._workers[service]
        while len(running) > replicas:
            end(running.pop(), signal.SIGTERM)
        while len(running) < replicas:
            self._start_worker(service)
        self._wait_for_workers()

    def restart_workers(self, options: Sequence[str]) -> None:
        """End all workers and start as many again, with other options."""
        counts = {queue: len(running) for queue, running in self._workers.items()}
        for queue in QUEUES:
            self.scale(queue, 0)
        self._worker_options = options
        for queue, count in counts.items():
            self.scale(queue, count)

    def audit(self) -> tuple[bool, str]:
        """Run the audit as a process of its own."""
        return audit(self._environment)

    def redriven(self) -> int:
        """Return how many sagas its sweeps have driven on so far, by the log of the process that sweeps."""
        return count_redriven(self._folder / f"{sagas.engine.coordinator}.log")

    def describe(self) -> dict[str, str]:
        """Return what a reader of the figures has to know of it."""
        return {
            "broker": self._broker,
            "worker": "python -m app worker" if self._as_procfile else " ".join(self._worker_options),
            "latency": f"{self._settings.gateway_latency_seconds:g} s",
        }

    def end(self) -> None:
        """End every process that was started."""
        self._celery.close()
        for process in [*self._others, *(one for running in self._workers.values() for one in running)]:
            kill_group(process)

    @property
    def database_url(self) -> str:
        """Return where its data are."""
        return self._settings.database_url

    @property
    def control(self) -> Control:
        """Return what reaches its workers."""
        return self._celery.control

    def _start_worker(self, queue: str) -> None:
        self._spawn(self._command(queue), queue, self._workers[queue])

    def _spawn(self, command: list[str], name: str, into: list[subprocess.Popen[bytes]]) -> None:
        with uninterrupted():
            into.append(spawn(command, self._environment, self._folder / f"{name}.log"))

    def _command(self, queue: str) -> list[str]:
        if self._as_procfile:
            return [sys.executable, "-m", "app", "worker", queue]
        # the last of two equal options holds; without the events for Flower, which cost more than they tell here
        command = [part for part in role_commands(self._settings)[queue] if part != "-E"]
        return [*command, *self._worker_options]

    def _wait_for_workers(self) -> None:
        wanted = Counter({queue: len(running) for queue, running in self._workers.items()})

        def answered() -> bool:
            names = [name for answer in self.control.ping(timeout=0.5) or [] for name in answer]
            return Counter(name.rpartition("@")[0].rpartition("-")[0] for name in names) >= wanted

        wait_for(f"the workers to answer, see {self._folder}", answered, START_SECONDS)


def count_redriven(log: Path) -> int:
    """Return how many sagas a process that sweeps has driven on, by its log."""
    with log.open() as lines:
        return sum("is driven on by the sweep" in line for line in lines)


@contextmanager
def open_processes(
    broker: str,
    latency: float,
    worker_options: Sequence[str] = (),
    *,
    as_procfile: bool = False,
    database_url: str | None = None,
) -> Iterator[Processes]:
    """Run a shop whose gateways take ``latency`` seconds; all of it has ended when the block is left.

    It has a database of its own that is dropped, unless one is given. ``as_procfile`` is as with ``Processes``, and
    such a shop writes its log as a real one.

    Logs are kept when the block raises. Raises NotUsable when a server is missing.
    """
    failed = False
    with ExitStack() as stack:
        folder = stack.enter_context(folder_for_servers(keep=lambda: failed))
        try:
            server = BROKERS[broker](folder)
            database_url = database_url or stack.enter_context(fresh_postgresql_database())
        except MissingServer as missing:
            raise NotUsable(str(missing)) from missing
        except OperationalError as error:
            raise NotUsable(f"PostgreSQL does not answer, set TEST_DATABASE_URL: {error.orig}") from error
        stack.callback(server.end)
        server.start()
        settings = _settings(database_url, server.url, latency, "INFO" if as_procfile else "WARNING")
        _prepare(settings)
        processes = Processes(broker, settings, folder, worker_options, as_procfile=as_procfile)
        stack.callback(processes.end)
        try:
            processes.start()
            yield processes
        except Exception:
            failed = True
            raise


def audit(environment: dict[str, str]) -> tuple[bool, str]:
    """Run the audit as a process with this environment; returns whether it is clean, and what it said."""
    command = [sys.executable, "-m", "app", "audit"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return ended.returncode == 0, ended.stdout + ended.stderr


def _settings(database_url: str, broker_url: str, latency: float, log_level: str) -> Settings:
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        port=free_port(),
        operator_token=SecretStr(OPERATOR_TOKEN),
        gateway_latency_seconds=latency,
        gateway_timeout_seconds=max(5.0, 2 * latency),
        # what is measured is the queue, and not how orders are undone that wait too long in it
        step_timeout_seconds=300,
        order_timeout_seconds=300,
        stall_seconds=120,
        log_level=log_level,
    )


def _prepare(settings: Settings) -> None:
    before = runtime.current()
    here = runtime.use(Runtime(settings))
    try:
        migrate(settings.database_url)
        seed()
    finally:
        runtime.use(before)
        here.close()
