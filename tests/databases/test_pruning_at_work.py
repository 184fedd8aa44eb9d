"""Pruning beside everything else: killed at the worst moments, several at once, in a shop that takes orders."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.celery import app as celery
from app.runtime import Runtime
from app.settings import ROOT
from cli.embedded import EmbeddedStack
from tests.databases.plans import (
    Executed,
    explain,
    leave_to_the_test,
    maintain,
    nodes,
    on_postgresql,
    on_sqlite,
    sqlite_plan,
)
from tests.databases.test_audit_on_a_live_database import unfinished
from tests.databases.test_sweep_cost import finish_sagas
from tests.testkit.orders import OLD_ORDERS, saga_ids
from workflows.operations.archive import Archive
from workflows.operations.audit import audit
from workflows.operations.retention import prune
from workflows.orders import Item, NewOrder, Pattern, place

KILLED = {
    "in the middle of a line": """
def add(self, records):
    global batches
    batches += 1
    if batches == 3:
        os.write(self._file, json.dumps(next(iter(records))).encode()[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, records)""",
    "before the batch is deleted": """
def add(self, records):
    global batches
    batches += 1
    real(self, records)
    if batches == 3:
        os.kill(os.getpid(), signal.SIGKILL)""",
    "before the batch is committed": """
@event.listens_for(Session, "before_commit")
def before_commit(session):
    if batches == 3:
        os.kill(os.getpid(), signal.SIGKILL)
def add(self, records):
    global batches
    batches += 1
    real(self, records)""",
}

PROGRAM = """
import json, os, signal, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from workflows.operations.archive import Archive
real, batches = Archive.add, 0
{killed}
Archive.add = add
from cli.main import main
main()
"""


def pruning(here: Runtime, archive: Path, program: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *(["-c", program] if program else ["-m", "app"]), "prune"]
    command += ["--older-than", "90d", "--archive", str(archive), "--batch", "5"]
    environment = {**os.environ, "DATABASE_URL": here.settings.database_url}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200)


def archived(path: Path) -> list[str]:
    return [json.loads(line)["saga_id"] for line in path.read_text().splitlines() if line.endswith("}")]


@pytest.mark.parametrize("moment", KILLED)
def test_killed_in_the_middle_and_run_again(here: Runtime, old: set[str], tmp_path: Path, moment: str) -> None:
    path = tmp_path / "orders.jsonl"
    killed = pruning(here, path, PROGRAM.format(killed=KILLED[moment]))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left, kept = saga_ids(here), archived(path)
    assert len(left) == OLD_ORDERS - 10  # two batches
    assert left | set(kept) == old
    assert len(left & set(kept)) == (0 if moment == "in the middle of a line" else 5)
    assert list(audit()) == []

    again = pruning(here, path)

    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith(f"{OLD_ORDERS - 10} orders (")
    assert saga_ids(here) == set()
    assert set(archived(path)) == old
    assert path.read_text().count("\n") == len(archived(path))
    assert list(audit()) == []


def test_two_at_once_share_the_work(here: Runtime, old: set[str], tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(days=90)

    def prune_into(path: Path) -> int:
        with Archive(path) as archive:
            return sum(batch.sagas for batch in prune(before, archive=archive, batch=3))

    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    with ThreadPoolExecutor() as pool:
        taken = sum(pool.map(prune_into, paths))

    assert taken == OLD_ORDERS
    assert sorted(archived(paths[0]) + archived(paths[1])) == sorted(old)
    assert list(audit()) == []


def test_a_shop_at_work_loses_nothing(here: Runtime, old: set[str]) -> None:
    celery.conf.task_always_eager = False
    before = datetime.now(UTC) - timedelta(days=90)
    placed = set()
    faults = [(), (("payments", "timeout"),), (("shipping", "decline"),)]
    with EmbeddedStack(here):
        batches = prune(before, batch=3)
        for number in range(18):
            items = (Item("item-001", 1), Item("product-1", 2))
            placed.add(place(NewOrder(items, list(Pattern)[number % 2], simulate=faults[number % 3])).saga_id)
            next(batches, None)
            assert list(audit()) == []
        give_up = datetime.now(UTC) + timedelta(seconds=200)
        while unfinished(here):
            assert datetime.now(UTC) < give_up

    assert saga_ids(here) == placed
    assert list(audit()) == []


@on_postgresql
def test_on_postgresql_what_is_old_is_found_by_an_index(here: Runtime, executed: list[Executed]) -> None:
    leave_to_the_test(here, "saga_instances")
    finish_sagas(here, 1, 20_000)
    maintain(here, "ANALYZE saga_instances")
    for before, rows in ((datetime(1970, 1, 1, tzinfo=UTC), 0), (datetime(2002, 1, 1, tzinfo=UTC), 50)):
        executed.clear()
        next(prune(before, batch=50), None)
        plan = explain(here, looking(executed))
        used = list(nodes(plan))
        assert {node["Index Name"] for node in used if "Index Name" in node} == {
            "ix_saga_instances_status_saga_type_id"
        }
        assert max(node["Actual Rows"] for node in used) == rows


@on_sqlite
def test_on_sqlite_what_is_old_is_found_by_an_index(here: Runtime, executed: list[Executed]) -> None:
    finish_sagas(here, 1, 100)
    executed.clear()

    next(prune(datetime(2002, 1, 1, tzinfo=UTC), batch=50))

    assert "USING INDEX ix_saga_instances_status_saga_type_id" in sqlite_plan(here, looking(executed))


def looking(executed: list[Executed]) -> Executed:
    return next(one for one in executed if "updated_at <" in one[0])
