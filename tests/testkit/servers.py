"""The servers that the tests find: PostgreSQL, RabbitMQ, Redis. Without them a test is skipped, or fails in CI."""

import fcntl
import hashlib
import os
import socket
import tempfile
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest
from kombu import Connection, Queue
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from app.celery import app as celery
from app.celery import configuration
from app.settings import Settings
from workflows import QUEUES

POSTGRESQL = os.environ.get("TEST_DATABASE_URL", "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres")
BROKERS = {
    "rabbitmq": os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
    "redis": os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15"),
}
_DROPPING = ThreadPoolExecutor(1)  # a process does not end before it has done its work
_in_use: set[str] = set()
"""The brokers that a shop is open on: a second one's workers would take the first one's messages, and drop them."""


@contextmanager
def fresh_postgresql_database(template: str = "template1") -> Iterator[str]:
    """Make a database, empty unless a ``template`` is named; yields its URL, and has it dropped at the end.

    Nobody waits for that: PostgreSQL writes everything to the disk before it drops a database.
    """
    name = f"cloudmart_test_{uuid4().hex[:12]}"
    _administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    finally:
        _DROPPING.submit(_administer, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(statement: str) -> None:
    server = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(statement))


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
