"""The stacks that the scenarios run on: in the caller, in this process, and on real servers with real workers.

Every stack is driven through its public HTTP API, so one suite fits all.
"""

import fcntl
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
from kombu import Connection, Queue
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app import runtime
from app.celery import QUEUES, configuration
from app.celery import app as celery
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from cli.embedded import EmbeddedStack
from tests.shop import OPERATOR_TOKEN, Shop, flask_transport, http_transport
from web import create_app
from workflows.seed_data import seed

ROOT = Path(__file__).resolve().parent.parent
POSTGRESQL = os.environ.get("TEST_DATABASE_URL", "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres")
BROKERS = {
    "rabbitmq": os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
    "redis": os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15"),
}
_in_use: set[str] = set()
"""The brokers that a shop is open on: a second one's workers would take the first one's messages, and drop them."""

ENDS_WITHIN_SECONDS = 60
"""How long a process that is asked to end may take."""

PORTS = range(20_000, 32_000)
_ports_given: set[int] = set()

SHOWN_OF_A_LOG = 4000
"""How much of each process's log a test that fails shows, in characters."""


def end_of(log: Path) -> str:
    """Return as much of a log as a test that fails shows."""
    return log.read_text(errors="replace")[-SHOWN_OF_A_LOG:]


def short_settings(**changes: Any) -> Settings:
    """Return settings with deadlines that a test can wait for."""
    values: dict[str, Any] = {
        "fault_injection": True,
        "operator_token": OPERATOR_TOKEN,
        "step_timeout_seconds": 3,
        "order_timeout_seconds": 4,
        "stall_seconds": 3,
        "sweep_seconds": 0.5,
    }
    return Settings(**{**values, **changes})


def open_shop(stack: str, seeded: Path, folder: Path, **changes: Any) -> AbstractContextManager[Shop]:
    """Run a CloudMart on a stack: eager, memory, or postgresql+<broker>.

    ``changes`` are settings; on a broker ``absent`` names a role that is not started, ``web_workers`` is how many
    processes serve the web, and ``queues`` are those that have a worker.
    """
    if stack == "eager":
        return _eager_shop(seeded, folder, **changes)
    if stack == "memory":
        return _memory_shop(seeded, folder, **changes)
    return _server_shop(stack.partition("+")[2], folder, **changes)


@contextmanager
def _eager_shop(seeded: Path, folder: Path, **changes: Any) -> Iterator[Shop]:
    """Celery runs each task where it is sent: a POST returns when its order has ended."""
    with _in_process(seeded, folder, **changes) as here:
        celery.conf.task_always_eager = True
        try:
            yield Shop(flask_transport(create_app().test_client()), here)
        finally:
            celery.conf.task_always_eager = False


@contextmanager
def _memory_shop(seeded: Path, folder: Path, **changes: Any) -> Iterator[Shop]:
    """The embedded stack: real messages, in this process's memory."""
    with _in_process(seeded, folder, **changes) as here, EmbeddedStack(here):
        yield Shop(flask_transport(create_app().test_client()), here)


@contextmanager
def _in_process(seeded: Path, folder: Path, **changes: Any) -> Iterator[Runtime]:
    path = folder / "shop.db"
    shutil.copy(seeded, path)
    settings = short_settings(database_url=f"sqlite:///{path}", broker_url="memory://", **changes)
    before = runtime.current()
    here = runtime.use(Runtime(settings))
    celery.conf.update(configuration(settings))
    yield here
    here.close()
    runtime.use(before)


@contextmanager
def _server_shop(
    broker: str,
    folder: Path,
    absent: str | None = None,
    web_workers: int = 1,
    queues: Sequence[str] = QUEUES,
    **changes: Any,
) -> Iterator[Shop]:
    """PostgreSQL and a real broker; web, scheduler and one worker per service, but one, are processes of their own."""
    _require(POSTGRESQL, "PostgreSQL", "TEST_DATABASE_URL")
    _require(BROKERS[broker], broker, f"TEST_{broker.upper()}_URL")
    with ExitStack() as stack:
        stack.enter_context(_broker_to_itself(broker))
        database_url = stack.enter_context(fresh_postgresql_database())
        empty_queues(BROKERS[broker])
        settings = short_settings(database_url=database_url, broker_url=BROKERS[broker], port=free_port(), **changes)
        before = runtime.current()
        here = runtime.use(Runtime(settings))
        migrate(database_url)
        seed()
        runtime.use(before)
        stack.callback(here.close)
        every = role_commands(settings, web_workers, queues)
        commands = {role: command for role, command in every.items() if role != absent}
        stack.enter_context(roles(commands, settings, folder))
        shop = Shop(http_transport(f"http://127.0.0.1:{settings.port}"), here)
        shop.wait_for(lambda: is_ready(shop), lambda ready: ready)
        # an order's deadlines must not pay for workers that are still starting
        workers = [folder / f"{queue}.log" for queue in queues if queue in commands]
        shop.wait_for(
            lambda: [log.name for log in workers if b" ready." not in log.read_bytes()], lambda late: not late
        )
        yield shop


@contextmanager
def _broker_to_itself(broker: str) -> Iterator[None]:
    """Keep every other test, of this process or another, from a broker: its workers would take this one's messages."""
    assert broker not in _in_use, f"another test's shop is still open on {broker}"
    name = hashlib.sha256(BROKERS[broker].encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"cloudmart-tests-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _in_use.add(broker)
        try:
            yield
        finally:
            _in_use.remove(broker)


def role_commands(settings: Settings, web_workers: int = 1, queues: Sequence[str] = QUEUES) -> dict[str, list[str]]:
    """Return the command of each role: a worker per queue, ``beat`` and ``web``; each call names the workers anew.

    ``queues`` with commas in it have a worker in common.
    """
    python = [sys.executable, "-m"]
    bind = f"127.0.0.1:{settings.port}"
    worker = [*python, "celery", "-A", "app", "worker", "-c", "2", "-E"]
    commands = {queue: [*worker, "-Q", queue, "-n", f"{queue}-{uuid4().hex[:8]}@%h"] for queue in queues}
    commands["beat"] = [*python, "celery", "-A", "app", "beat"]
    commands["web"] = [*python, "gunicorn", "web:create_app()", "--bind", bind, "--workers", str(web_workers)]
    return commands


def process_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a process of its own has these settings."""
    values = {name.upper(): value for name, value in settings.model_dump().items() if value is not None}
    secrets = {name: value.get_secret_value() for name, value in values.items() if isinstance(value, SecretStr)}
    return {**os.environ, **{name: str(value) for name, value in values.items()}, **secrets}


@contextmanager
def roles(commands: dict[str, list[str]], settings: Settings, folder: Path) -> Iterator[None]:
    """Run each command as a process of its own, its output in the folder (shown if a test fails); ends them all."""
    processes = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                environment = process_environment(settings)
                processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        yield
    except BaseException:
        for name in commands:
            sys.stdout.write(f"--- {name}\n{end_of(folder / f'{name}.log')}\n")
        raise
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(ENDS_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def fresh_postgresql_database(template: str = "template1") -> Iterator[str]:
    """Make a database, empty unless a ``template`` is named; yields its URL, and drops it at the end."""
    name = f"cloudmart_test_{uuid4().hex[:12]}"
    server = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def require_postgresql() -> None:
    """Skip the test, or fail it in CI, when PostgreSQL does not answer."""
    _require(POSTGRESQL, "PostgreSQL", "TEST_DATABASE_URL")


def require_redis() -> None:
    """Skip the test, or fail it in CI, when Redis does not answer."""
    _require(BROKERS["redis"], "Redis", "TEST_REDIS_URL")


@contextmanager
def open_broker(name: str) -> Iterator[str]:
    """Keep a broker from every other test; yields its URL. Its queues are empty. Skip, or fail, if it is not there."""
    if name == "memory":
        empty_queues("memory://")  # this process's, in which another test may have left something
        yield "memory://"
        return
    _require(BROKERS[name], name, f"TEST_{name.upper()}_URL")
    with _broker_to_itself(name):
        empty_queues(BROKERS[name])
        yield BROKERS[name]


def _require(url: str, server: str, variable: str) -> None:
    try:
        socket.create_connection(_host_and_port(url), timeout=2).close()
    except OSError:
        not_here(f"{server} does not answer: start it (`make services`) or set {variable}")


def not_here(hint: str) -> NoReturn:
    """Skip the test for want of a server, or fail it in CI; the hint says how to get the server."""
    if os.environ.get("CI") == "true":
        pytest.fail(hint)
    pytest.skip(hint)


def _host_and_port(url: str) -> tuple[str, int]:
    default_port = {"postgresql+psycopg2": 5432, "amqp": 5672, "redis": 6379}
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or default_port[parts.scheme]


def connection_to(broker_url: str) -> Connection:
    """Return a connection to a broker, by the transport that is ours to it, whatever Celery is set up for."""
    there = configuration(Settings(broker_url=broker_url))
    # kombu would take the transport that Celery is set up for, and not the URL's
    transport = there["broker_transport"] or urllib.parse.urlsplit(broker_url).scheme
    return celery.connection_for_write(there["broker_url"], transport=transport)


def empty_queues(broker_url: str) -> None:
    """Throw away what waits in the queues of a broker."""
    with connection_to(broker_url) as connection:
        for name in QUEUES:
            queue = Queue(name)(connection.default_channel)
            queue.declare()
            queue.purge()


def free_port(*addresses: str) -> int:
    """Return a port that is free on these addresses (127.0.0.1 unless said otherwise) and stays so until it is used.

    The system gives ports from 32768 on to connections: one of those may be taken before, or while, a server is down,
    even by a client that tried to reach the server and met itself.
    """
    ports = _ports_of_this_process()
    while True:
        port = random.choice(ports)
        if port in _ports_given:
            continue
        with ExitStack() as probes, suppress(OSError):
            for address in addresses or ("127.0.0.1",):
                probes.enter_context(socket.socket()).bind((address, port))
            _ports_given.add(port)
            return port


def _ports_of_this_process() -> range:
    """Return the ports that no other of xdist's processes hands out: both might find the same one free."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return PORTS[number % count :: count]


def is_ready(shop: Shop) -> bool:
    """Return whether a shop's web process answers, and has what it needs."""
    try:
        return shop.get("/readyz").status == 200
    except OSError:
        return False
