"""Counting in many processes, which are forked, replaced and killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import registry
from app.observability.metrics.multiprocess import SlotCollector
from app.runtime import Runtime
from app.settings import ROOT

FAMILY = """
import os, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, values
from app.observability.metrics.multiprocess import Slots

values.ValueClass = values.MultiProcessValue(Slots(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
counter = Counter("done", "What was done.", registry=CollectorRegistry())

def count(times):
    for _ in range(times):
        counter.inc()

def fork(times, ending=lambda: None):
    process = os.fork()
    if not process:
        count(times)
        ending()
        os._exit(0)
    return process

def child(times, ending=lambda: None):
    os.waitpid(fork(times, ending), 0)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(script: str, **environment: str) -> str:
    """Run a process, which may kill itself; returns what it printed."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.stdout.strip()


def family(folder: Path, script: str) -> None:
    """Run a process that counts in the folder, and forks children."""
    run(FAMILY + script, PROMETHEUS_MULTIPROC_DIR=str(folder))


def counted(folder: Path) -> float | None:
    registry = CollectorRegistry()
    SlotCollector(folder, registry)
    return registry.get_sample_value("done_total")


def test_what_children_counted_stays_when_they_have_ended_or_were_killed(tmp_path: Path) -> None:
    family(tmp_path, "count(1); child(2); child(4, killed); count(8)")
    assert counted(tmp_path) == 15

    family(tmp_path, "count(1); child(2, killed); killed()")
    family(tmp_path, "[child(1, killed) for _ in range(40)]")  # the next parent goes on with it
    assert counted(tmp_path) == 15 + 3 + 40
    assert len(list(tmp_path.iterdir())) == 2 * 2  # a parent and one child at a time: their counters, and a lock each

    (tmp_path / "counter_4711.db").write_bytes((tmp_path / "counter_slot0.db").read_bytes())  # Flower's, say
    (tmp_path / "counter_slot9.db").touch()  # is just being made
    assert counted(tmp_path) == 15 + 3 + 40


def test_processes_that_run_at_the_same_time_do_not_write_over_each_other(tmp_path: Path) -> None:
    # children have children of their own, and a slot that is given back is taken by somebody else
    grandchildren = "lambda: [os.waitpid(one, 0) for one in [fork(500), fork(500)]]"
    family(
        tmp_path,
        f"children = [fork(500, {grandchildren}) for _ in range(4)]; count(500)\n"
        "[os.waitpid(one, 0) for one in children]; child(500)",
    )

    assert counted(tmp_path) == 500 * (4 * 3 + 2)


def test_a_folder_that_cannot_be_used_is_named_and_nothing_is_counted(
    here: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "_counts", None)
    (tmp_path / "file").touch()
    here.settings = here.settings.but(prometheus_multiproc_dir=tmp_path / "file")

    registry.start()

    assert f"nothing is counted: PROMETHEUS_MULTIPROC_DIR={tmp_path / 'file'} cannot be used" in caplog.text
    assert not list(registry.registry().collect())


def test_a_folder_made_for_a_family_goes_with_it_or_with_the_next(tmp_path: Path) -> None:
    imports = "import os, signal; from app.observability.metrics.multiprocess import make_folder"

    def make_folder(script: str = "") -> Path:
        return Path(run(f"{imports}; print(make_folder(), flush=True); {script}", TMPDIR=str(tmp_path)))

    assert make_folder().parent == tmp_path
    assert not list(tmp_path.iterdir())
    killed = make_folder("os.fork() or os._exit(0); os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.is_dir()
    (tmp_path / f"cloudmart-metrics-{os.getpid()}-ours").mkdir()
    make_folder()
    assert [folder.name for folder in tmp_path.iterdir()] == [f"cloudmart-metrics-{os.getpid()}-ours"]
