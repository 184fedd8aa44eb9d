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
from sqlalchemy import func, select

from app.celery import app as celery
from app.runtime import Runtime
from app.settings import ROOT
from cli.embedded import embedded_stack
from durable_sagas.definition import ACTIVE
from durable_sagas.models import SagaInstance
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
from tests.databases.test_sweep_cost import finish_sagas
from tests.testkit.orders import OLD_ORDERS, saga_ids
from workflows.operations.archive import Archive
from workflows.operations.audit import audit
from workflows.operations.retention import prune
from workflows.orders import Item, NewOrder, Pattern, place

OLD = timedelta(days=90)
MID_LINE, UNDELETED, UNCOMMITTED = "in the middle of a line", "before the batch is deleted", "before it is committed"

DIES = """
import json, os, signal, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from workflows.operations.archive import Archive

moment, add, batches = sys.argv.pop(1), Archive.add, 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def add_or_die(self, records):
    global batches
    batches += 1
    if batches == 3 and moment == "in the middle of a line":
        os.write(self._file, json.dumps(next(iter(records))).encode()[:100])
        die()
    add(self, records)
    if batches == 3 and moment == "before the batch is deleted":
        die()

Archive.add = add_or_die
event.listen(Session, "before_commit", lambda _: die() if batches == 3 else None)
from cli.main import main
main()
"""
"""A program that is killed at a moment of its third batch."""


def archived(path: Path) -> list[str]:
    return [json.loads(line)["saga_id"] for line in path.read_text().splitlines() if line.endswith("}")]


def prune_into(path: Path, batch: int) -> int:
    with Archive(path) as archive:
        return sum(taken.sagas for taken in prune(datetime.now(UTC) - OLD, archive=archive, batch=batch))


@pytest.mark.parametrize(
    ("settings", "moment"),
    [("sqlite", MID_LINE), ("postgresql", MID_LINE), ("postgresql", UNDELETED), ("postgresql", UNCOMMITTED)],
    indirect=["settings"],
)
def test_killed_in_the_middle_and_run_again(here: Runtime, old: set[str], tmp_path: Path, moment: str) -> None:
    path = tmp_path / "orders.jsonl"
    command = [sys.executable, "-c", DIES, moment, "prune"]
    command += ["--older-than", "90d", "--archive", str(path), "--batch", "5"]
    environment = {**os.environ, "DATABASE_URL": here.settings.database_url}

    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left, kept = saga_ids(here), archived(path)
    assert len(left) == OLD_ORDERS - 10  # two batches
    assert left | set(kept) == old
    assert len(left & set(kept)) == (0 if moment == MID_LINE else 5)
    assert list(audit()) == []

    assert prune_into(path, batch=5) == OLD_ORDERS - 10

    assert saga_ids(here) == set()
    assert set(archived(path)) == old
    assert path.read_text().count("\n") == len(archived(path))
    assert list(audit()) == []


def test_two_at_once_share_the_work(here: Runtime, old: set[str], tmp_path: Path) -> None:
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    with ThreadPoolExecutor() as pool:
        taken = sum(pool.map(lambda path: prune_into(path, batch=3), paths))

    assert taken == OLD_ORDERS
    assert sorted(archived(paths[0]) + archived(paths[1])) == sorted(old)
    assert list(audit()) == []


def test_a_shop_at_work_loses_nothing_and_has_no_violation_at_any_moment(here: Runtime, old: set[str]) -> None:
    celery.conf.task_always_eager = False
    placed = set()
    faults = [(), (("payments", "timeout"),), (("shipping", "decline"),), (("inventory", "fail:1"),)]
    with embedded_stack(here):
        batches = prune(datetime.now(UTC) - OLD, batch=3)
        for number in range(18):
            items = (Item("item-001", 1), Item("product-1", 2))
            placed.add(place(NewOrder(items, list(Pattern)[number % 2], simulate=faults[number // 2 % 4])).saga_id)
            next(batches, None)
            assert list(audit()) == []
        give_up = datetime.now(UTC) + timedelta(seconds=200)
        while unfinished(here):
            assert list(audit()) == []
            assert datetime.now(UTC) < give_up

    assert saga_ids(here) == placed
    assert list(audit()) == []


def unfinished(here: Runtime) -> int:
    query = select(func.count()).select_from(SagaInstance).where(SagaInstance.status.in_(ACTIVE))
    with here.database.reading() as session:
        return session.scalars(query).one()


@on_postgresql
def test_on_postgresql_what_is_old_is_found_by_an_index(here: Runtime, executed: list[Executed]) -> None:
    leave_to_the_test(here, "saga_instances")
    finish_sagas(here, 1, 20_000)
    maintain(here, "ANALYZE saga_instances")
    for before, rows in ((datetime(1970, 1, 1, tzinfo=UTC), 0), (datetime(2002, 1, 1, tzinfo=UTC), 50)):
        executed.clear()
        next(prune(before, batch=50), None)
        used = list(nodes(explain(here, looking(executed))))
        indexes = {node["Index Name"] for node in used if "Index Name" in node}
        assert indexes == {"ix_saga_instances_status_saga_type_id"}
        assert max(node["Actual Rows"] for node in used) == rows


@on_sqlite
def test_on_sqlite_what_is_old_is_found_by_an_index(here: Runtime, executed: list[Executed]) -> None:
    finish_sagas(here, 1, 100)
    executed.clear()

    next(prune(datetime(2002, 1, 1, tzinfo=UTC), batch=50))

    assert "USING INDEX ix_saga_instances_status_saga_type_id" in sqlite_plan(here, looking(executed))


def looking(executed: list[Executed]) -> Executed:
    return next(one for one in executed if "updated_at <" in one[0])
