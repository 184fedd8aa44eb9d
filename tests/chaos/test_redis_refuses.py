"""A Redis that answers and takes nothing: out of memory, or a replica after a failover. Workers wait until it does."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from app.runtime import Runtime
from app.settings import Settings
from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance
from tests.testkit import forged
from tests.testkit.private_servers import MissingServer, PrivateRedis
from tests.testkit.processes import end_of, free_port, process_environment, running, wait_for
from tests.testkit.servers import connection_to, not_here
from workflows import QUEUES
from workflows.orders import Item, NewOrder, Pattern, place

AGAIN = b"Cannot connect to"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    try:
        server = PrivateRedis(folder)
    except MissingServer as missing:
        not_here(str(missing))
    server.start()
    yield server
    server.end()


REFUSALS: dict[str, tuple[str, Callable[[Redis], object], Callable[[Redis], object]]] = {
    "out of memory": (
        "solo",
        lambda server: server.config_set("maxmemory", 1),
        lambda server: server.config_set("maxmemory", 0),
    ),
    "read-only": (
        "prefork",
        lambda server: server.replicaof("127.0.0.1", free_port()),  # a port on which nothing listens
        lambda server: server.replicaof("NO", "ONE"),
    ),
}
"""Which pool meets it, and how a server begins, and ends, to take nothing."""


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("post")
@pytest.mark.parametrize("reason", REFUSALS)
def test_a_worker_waits_until_redis_takes_messages_again(
    here: Runtime, settings: Settings, redis: PrivateRedis, tmp_path: Path, reason: str
) -> None:
    pool, refuse, take = REFUSALS[reason]
    here.settings = there = settings.but(broker_url=redis.url, step_timeout_seconds=600)
    saga_id = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION)).saga_id  # nothing of it was sent
    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", pool, "-c", "1", "-Q", ",".join(QUEUES)]
    log = tmp_path / "worker.log"

    def ask_for_a_sweep() -> None:
        with connection_to(redis.url) as connection:
            forged.put(connection, "orchestrator", forged.task("orchestrator.sweep"))

    def completed() -> bool:
        assert worker.poll() is None, end_of(log)
        try:
            ask_for_a_sweep()
        except RedisError:
            return False
        with here.database.reading() as session:
            return session.get_one(SagaInstance, saga_id).status == SagaStatus.COMPLETED

    with (
        Redis(port=redis.port) as server,
        running(command, process_environment(there), log, lambda: b" ready." in log.read_bytes()) as worker,
    ):
        os.kill(worker.pid, signal.SIGSTOP)  # what it is handed meanwhile, it takes when nothing is taken from it
        ask_for_a_sweep()
        refuse(server)
        os.kill(worker.pid, signal.SIGCONT)
        wait_for("it to try again", lambda: AGAIN in log.read_bytes() or worker.poll() is not None)

        take(server)

        wait_for("the order to be completed", completed)
        assert b"Unrecoverable" not in log.read_bytes()
