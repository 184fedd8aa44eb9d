"""``python -m app worker`` as a container runs it: its names, its end, and its sign of life."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from click.testing import CliRunner
from sqlalchemy import text

from app.settings import ROOT, Settings
from cli.main import commands
from tests.testkit.processes import children, free_port, process_environment, running, wait_for
from tests.testkit.relay import Relay
from tests.testkit.servers import open_broker
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES

COMMAND = [sys.executable, "-m", "app", "worker"]
OTHERS = ",".join(queue for queue in QUEUES if queue != "inventory")
GRACE_SECONDS = 45
"""What docker-compose.yml gives a worker."""


def worker(
    queue: str, settings: Settings, log: Path, **environment: str
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    said = {**process_environment(settings), **environment}
    return running([*COMMAND, queue], said, log, lambda: b" ready." in log.read_bytes())


def test_an_unknown_queue_is_refused_with_those_that_there_are() -> None:
    refused = CliRunner().invoke(commands, ["worker", "refunds"])
    assert refused.exit_code == 2
    assert f"There is no queue 'refunds'. There are: {', '.join(QUEUES)}." in refused.output


def blocked(shop: Shop) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(shop.rows(waiting)[0][0])


def session_niceness(pid: int) -> int | None:
    """Return the niceness of a process's session; None where Linux has no niceness of sessions.

    The file may be empty: Linux has no niceness to tell of a session that shares the processors with all others.
    """
    said = Path(f"/proc/{pid}/autogroup")
    words = said.read_text().split() if said.exists() else []
    return int(words[-1]) if words else None


def assert_gives_way(worker: "subprocess.Popen[bytes]", niceness: int) -> None:
    """A worker, and the processes of its pool, give way so far to others; so does its session, where there are such."""
    mine, pids = os.getpriority(os.PRIO_PROCESS, 0), [worker.pid, *children(worker.pid)]
    assert len(pids) > 1, "its pool has processes of its own"
    assert {os.getpriority(os.PRIO_PROCESS, pid) - mine for pid in pids} == {niceness}
    assert session_niceness(worker.pid) in {niceness, None}


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
    with open_shop("postgresql+rabbitmq", seeded_database, tmp_path, queues=[OTHERS], **patient) as shop:
        settings = shop.here.settings.but(worker_concurrency=1)
        book = shop.add_book(stock=4)
        engine = shop.here.database.engine
        with worker("inventory", settings, tmp_path / "first.log", WORKER_NICENESS="3") as first:
            assert_gives_way(first, 3)
            with engine.connect() as holder, holder.begin():
                holder.execute(text("SELECT 1 FROM inventory WHERE book_id = :book FOR UPDATE"), {"book": book})
                placed = [shop.order(book) for _ in range(4)]
                wait_for("a step to be running", lambda: blocked(shop))

                first.send_signal(signal.SIGTERM)
                wait_for("the worker to have heard", lambda: b"Warm shutdown" in (tmp_path / "first.log").read_bytes())
                assert first.poll() is None
            assert first.wait(GRACE_SECONDS) == 0
        assert shop.stock(book)[0] == 3  # of the four that are wanted

        with worker("inventory", settings, tmp_path / "second.log") as second:
            assert_gives_way(second, 10)
            logs = [(tmp_path / name).read_text() for name in ("first.log", "second.log")]
            assert len({name for log in logs for name in re.findall(r"(\S+@\S+) ready\.", log)}) == 2
            assert {shop.settle(order["saga_id"])["status"] for order in placed} == {"completed"}
        assert shop.violations() == []


def test_a_worker_shows_its_sign_of_life_only_while_it_has_its_broker(seeded_database: Path, tmp_path: Path) -> None:
    sign, log = tmp_path / "heartbeat", tmp_path / "log"

    def good() -> bool:
        return sign.exists() and sign.stat().st_mtime > time.time()

    with open_broker("rabbitmq") as url:
        there = urlsplit(url)
        port = there.port or 5672
        with Relay(port, there.hostname or "127.0.0.1") as line:
            through = there._replace(netloc=f"{there.username}:{there.password}@127.0.0.1:{line.port}").geturl()
            database = f"sqlite:///{seeded_database}"
            settings = Settings(database_url=database, broker_url=through, heartbeat_file=str(sign))
            with worker("notifications", settings, log) as process:
                wait_for("the sign of life", good)
                line.lead_to(free_port())  # a port on which nothing listens
                line.cut()
                wait_for("it to be gone", lambda: not good())
                # not the log: Celery also reconnects silently, when it finds the connection lost while it ends it
                wait_for("the worker to look for its broker", lambda: line.unanswered > 0)
                assert not good()
                line.lead_to(port)
                wait_for("it to be back", good)
                assert process.poll() is None


def test_a_process_leaves_the_session_that_it_shares_as_it_is() -> None:
    script = "import os; from cli.worker import lower_priority; lower_priority(5); print(os.nice(0))"
    before = session_niceness(os.getpid())
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert int(done.stdout) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert session_niceness(os.getpid()) == before
