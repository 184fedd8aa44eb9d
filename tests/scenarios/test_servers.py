"""What operators look at when every service is a process of its own: the workers' registers, and Flower."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from tests.testkit.orders import BROKEN, TASKS
from tests.testkit.processes import free_port, process_environment, roles
from tests.testkit.shop import Shop

pytestmark = pytest.mark.parametrize(
    "shop", ["postgresql+redis"], indirect=True
)  # Flower beside RabbitMQ: tests/browser


def test_every_worker_registers_every_task(shop: Shop) -> None:
    command = [sys.executable, "-m", "celery", "-A", "app", "inspect", "registered", "--json", "--timeout", "3"]
    environment = process_environment(shop.here.settings)

    def registered() -> dict[str, list[str]]:
        answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else {}

    answers = shop.wait_for(registered, lambda workers: len(workers) == 6)
    for tasks in answers.values():
        assert set(tasks) >= {*TASKS, "orders.complete_order", "orchestrator.sweep"}


def test_flower_finds_an_orders_tasks_by_its_saga_id(shop: Shop, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "app", "flower", "--address=127.0.0.1", f"--port={port}"]
    book = shop.add_book(stock=5)
    # Flower's API wants a login unless it is told that it stands in a private place
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
        with roles({"flower": command}, shop.here.settings, tmp_path):
            shop.wait_for(lambda: workers(port), lambda found: len(found) == 6)

            placed = shop.order(book, simulate=BROKEN)
            shop.settle(placed["saga_id"])
            found = shop.wait_for(
                lambda: tasks(port, placed["saga_id"]),
                lambda found: set(found) == set(TASKS) and found["orders.cancel_order"]["state"] == "SUCCESS",
            )
    assert found["payments.process_payment"]["retries"] == 1
    assert found["shipping.arrange_shipping"]["state"] == "FAILURE"
    assert "'success': True" in found["payments.refund_payment"]["result"]


def workers(port: int) -> list[str]:
    return sorted(fetch(port, "/api/workers"))


def tasks(port: int, saga_id: str) -> dict[str, Any]:
    """Return what Flower lists when one searches for a saga's id, by task name."""
    return {task["name"]: task for task in fetch(port, f"/api/tasks?search={saga_id}").values()}


def fetch(port: int, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return dict(json.load(answer))
    except OSError:
        return {}
