"""A rolling deploy, on real servers: the web is new, and a service with a new step has a new worker and an old one."""

import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.testkit.processes import free_port, roles, wait_for
from tests.testkit.shop import Shop, http_transport
from tests.testkit.stacks import is_ready, open_shop
from workflows import QUEUES

ORDERS = 6
ADDED = """
    SELECT step, status, count(*) FROM saga_steps WHERE step IN ('wrap_as_gift', 'send_greetings')
    GROUP BY 1, 2 ORDER BY 1"""


@pytest.mark.timeout(300)
def test_old_workers_leave_what_they_do_not_know_to_new_ones(seeded_database: Path, tmp_path: Path) -> None:
    patient = {"step_timeout_seconds": 60, "order_timeout_seconds": 60, "stall_seconds": 20}
    queues = [",".join(QUEUES)]
    with open_shop("postgresql+rabbitmq", seeded_database, tmp_path, queues=queues, **patient) as old:
        book = old.add_book(stock=ORDERS)
        newer = old.here.settings.but(port=free_port())
        python = [sys.executable, "-m"]
        worker = [*python, "celery", "-A", "tests.workers.newer_version", "worker", "-c", "2"]
        worker += ["-Q", "inventory,shipping", "-n", f"new-{uuid4().hex[:8]}@%h"]
        web = [*python, "gunicorn", "tests.workers.newer_version:create_app()", "--bind", f"127.0.0.1:{newer.port}"]
        new = Shop(http_transport(f"http://127.0.0.1:{newer.port}"), old.here)
        with roles({"new-web": web}, newer, tmp_path):
            new.wait_for(lambda: is_ready(new), bool)
            placed = [new.order(book, saga_type="order") for _ in range(ORDERS)]
            log = tmp_path / f"{queues[0]}.log"
            wait_for("a message to be left", lambda: b"left to a worker of another version" in log.read_bytes())
            with roles({"new-worker": worker}, newer, tmp_path):
                ended = [new.settle(order["saga_id"]) for order in placed]
                added = new.rows(ADDED)

    assert [saga["status"] for saga in ended] == ["completed"] * ORDERS
    assert [tuple(row) for row in added] == [
        ("send_greetings", "completed", ORDERS),
        ("wrap_as_gift", "completed", ORDERS),
    ]
