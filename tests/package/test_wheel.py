"""The engine as others install it: its wheel, without the checkout, in a project of their own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.settings import ROOT
from tests.testkit.processes import running, wait_for
from tests.testkit.servers import fresh_postgresql_database, open_broker


def test_the_wheel_holds_the_engine_alone_and_says_that_it_is_typed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"durable_sagas"}
    assert "durable_sagas/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "durable_sagas").rglob("*.py")}
    assert modules <= set(names)


def test_importing_it_changes_nothing_of_its_host(installed: dict[str, str], tmp_path: Path) -> None:
    script = """
import logging, celery, os
before = list(logging.getLogger().handlers), celery.Celery("x").conf.worker_consumer
os.environ.clear()
import durable_sagas
from sqlalchemy.orm import sessionmaker
host = celery.Celery("host")
durable_sagas.Sagas(host, sessionmaker())
assert celery.current_app._get_current_object() is host
after = list(logging.getLogger().handlers), host.conf.worker_consumer
assert after == before, after
assert host.conf.task_acks_late is False and host.conf.task_routes is None
assert host.tasks["orchestrator.sweep"].queue == "orchestrator"
import sys
assert not [name for name in sys.modules if name.startswith(("prometheus_client", "opentelemetry", "flask", "app."))]
"""
    subprocess.run([sys.executable, "-c", script], env=installed, cwd=tmp_path, check=True, timeout=60)


def test_mypy_strict_accepts_projects_that_use_it(installed: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "examples"]
    environment = {**installed, "MYPYPATH": installed["PYTHONPATH"]}
    checked = subprocess.run(mypy, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_a_project_of_its_own_runs_a_saga_and_foreign_tasks_on_the_same_worker(
    installed: dict[str, str], tmp_path: Path, pool: str
) -> None:
    shutil.copy(ROOT / "examples" / "two_steps.py", tmp_path)
    (tmp_path / "results").mkdir()
    with open_broker("rabbitmq") as broker, fresh_postgresql_database() as database:
        environment = {**installed, "BROKER": broker, "DATABASE": database, "RESULTS": str(tmp_path / "results")}
        environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
        worker = [sys.executable, "-m", "celery", "-A", "two_steps", "worker", "--loglevel", "INFO", "--pool", pool]
        with running([*worker, "-c", "1"], environment, tmp_path / "worker.log", lambda: True, tmp_path):
            script = [sys.executable, "two_steps.py"]
            done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert (done.stdout, done.returncode) == ("(1+5j)\n", 0), done.stderr
            statuses = wait_for_ends(database)

    assert statuses == {"to the sea": "completed", "to the moon": "compensated"}, (tmp_path / "worker.log").read_text()


def wait_for_ends(database: str) -> dict[str, str]:
    """Wait until every saga has ended; return their statuses and that a flight is booked for the completed one only."""
    engine = create_engine(database)
    found: dict[str, str] = {}

    def all_have_ended() -> bool:
        with engine.connect() as connection:
            found.update(connection.execute(text("SELECT order_id, status FROM saga_instances")).all())
        return set(found.values()) <= {"completed", "compensated", "stuck"}

    wait_for("the sagas to end", all_have_ended)
    with engine.connect() as connection:
        flights = set(connection.scalars(text("SELECT trip_id FROM flights")))
    engine.dispose()
    assert flights == {name for name, status in found.items() if status == "completed"}
    return found
