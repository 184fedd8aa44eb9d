"""``python -m app worker`` as a container runs it: its names, its end, and its sign of life."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from app.settings import ROOT, Settings
from tests.testkit.processes import kill_group, process_environment, spawn, wait_for
from tests.testkit.servers import open_broker
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop

COMMAND = [sys.executable, "-m", "app", "worker"]
GRACE_SECONDS = 45
"""What docker-compose.yml gives a worker."""


@contextmanager
def worker(queue: str, settings: Settings, log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = spawn([*COMMAND, queue], {**process_environment(settings), **environment}, log)
    try:
        wait_for(f"{queue} to be ready, see {log}", lambda: b" ready." in log.read_bytes())
        yield process
    finally:
        kill_group(process)


def test_an_unknown_queue_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run([*COMMAND, "refunds"], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "There is no queue 'refunds'. There are: orders, inventory, payments" in done.stderr


def blocked(shop: Shop) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(shop.rows(waiting)[0][0])


def test_a_worker_that_is_asked_to_end_finishes_its_step_and_gives_the_rest_back(
    seeded_database: Path, tmp_path: Path
) -> None:
    # so that it is neither a sweep nor a retry that saves the orders
    patient = {
        "step_timeout_seconds": 90,
        "stall_seconds": 90,
        "database_lock_timeout_seconds": 90,
        "database_statement_timeout_seconds": 90,
        "database_idle_transaction_seconds": 90,
    }
    with open_shop("postgresql+rabbitmq", seeded_database, tmp_path, absent="inventory", **patient) as shop:
        settings = shop.here.settings.but(worker_concurrency=1)
        book = shop.add_book(stock=4)
        engine = shop.here.database.engine
        with worker("inventory", settings, tmp_path / "first.log") as first:
            with engine.connect() as holder, holder.begin():
                holder.execute(text("SELECT 1 FROM inventory WHERE book_id = :book FOR UPDATE"), {"book": book})
                placed = [shop.order(book) for _ in range(4)]
                wait_for("a step to be running", lambda: blocked(shop))

                first.send_signal(signal.SIGTERM)
                wait_for("the worker to have heard", lambda: b"Warm shutdown" in (tmp_path / "first.log").read_bytes())
                assert first.poll() is None
            assert first.wait(GRACE_SECONDS) == 0
        assert shop.stock(book)[0] == 3  # of the four that are wanted

        with worker("inventory", settings, tmp_path / "second.log"):
            assert {shop.settle(order["saga_id"])["status"] for order in placed} == {"completed"}
        assert shop.violations() == []


class Line:
    """A line to a broker that can be cut, and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, *, cut: bool) -> None:
        self.cut = cut
        while cut and self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.set(cut=True)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.cut:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError), one, other:
            while data := one.recv(65536):
                other.sendall(data)


@pytest.fixture
def rabbitmq() -> Iterator[str]:
    """The URL of a RabbitMQ that answers and that no shop uses."""
    with open_broker("rabbitmq") as url:
        yield url


@pytest.fixture
def line(rabbitmq: str) -> Iterator[Line]:
    there = urlsplit(rabbitmq)
    line = Line(there.hostname or "127.0.0.1", there.port or 5672)
    yield line
    line.close()


def test_a_worker_shows_its_sign_of_life_only_while_it_has_its_broker(
    line: Line, rabbitmq: str, seeded_database: Path, tmp_path: Path
) -> None:
    sign, log = tmp_path / "heartbeat", tmp_path / "log"
    there = urlsplit(rabbitmq)
    through = there._replace(netloc=f"{there.username}:{there.password}@127.0.0.1:{line.port}").geturl()
    settings = Settings(database_url=f"sqlite:///{seeded_database}", broker_url=through, heartbeat_file=str(sign))

    def good() -> bool:
        return sign.exists() and sign.stat().st_mtime > time.time()

    with worker("notifications", settings, log) as process:
        wait_for("the sign of life", good)
        line.set(cut=True)
        wait_for("it to be gone", lambda: not good())
        wait_for("the worker to look for its broker", lambda: b"Trying again" in log.read_bytes())
        assert not good()
        line.set(cut=False)
        wait_for("it to be back", good)
        assert process.poll() is None


def test_two_workers_of_a_service_have_different_names(rabbitmq: str, seeded_database: Path, tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{seeded_database}", broker_url=rabbitmq)
    logs = [tmp_path / "one", tmp_path / "two"]
    with worker("notifications", settings, logs[0]), worker("notifications", settings, logs[1]):
        names = {next(word for word in log.read_text().split() if "@" in word and "-" in word) for log in logs}
    assert len(names) == 2, os.linesep.join(names)


def session_niceness(pid: int) -> int | None:
    """Return how far all processes of a process's session give way; None where Linux does not go by sessions.

    The file may be empty: Linux has no niceness to tell of a session that shares the processors with all others.
    """
    said = Path(f"/proc/{pid}/autogroup")
    words = said.read_text().split() if said.exists() else []
    return int(words[-1]) if words else None


@pytest.mark.parametrize(("setting", "expected"), [(None, 10), (3, 3), (0, 0)])
def test_a_worker_gives_way_to_whoever_wants_the_same_processor(
    rabbitmq: str, seeded_database: Path, tmp_path: Path, setting: int | None, expected: int
) -> None:
    changes: dict[str, Any] = {} if setting is None else {"worker_niceness": setting}
    settings = Settings(database_url=f"sqlite:///{seeded_database}", broker_url=rabbitmq, **changes)
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with worker("payments", settings, tmp_path / "log") as process:
        pids = [process.pid, *children(process.pid)]
        assert len(pids) > 1, "its pool has processes of its own"
        assert {os.getpriority(os.PRIO_PROCESS, pid) - mine for pid in pids} == {expected}
        assert session_niceness(process.pid) in {expected, None}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_leaves_the_session_that_it_shares_as_it_is() -> None:
    script = (
        "import os; from cli.niceness import lower_priority; lower_priority(5); "
        "print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    before = session_niceness(os.getpid())
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert int(done.stdout) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert session_niceness(os.getpid()) == before
