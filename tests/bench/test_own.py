"""The shop's own measures: that they end, and print, write and count what they should; never how fast anything is."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.settings import ROOT
from bench.own.hops import hops
from bench.own.hot_row import oversold
from bench.own.measured import Figure
from bench.own.sagas import Saga, Step
from durable_sagas.definition import SagaStatus
from tests.testkit.servers import require_postgresql

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def run(tmp_path: Path, module: str, *arguments: str) -> tuple[str, list[Path]]:
    """Run a module of the bench; returns what it printed and which results it wrote. Nothing else may be left."""
    require_postgresql()
    results = tmp_path / "results"
    command = [sys.executable, "-m", f"bench.{module}", "--results", str(results), *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == [results]
    return ended.stdout, list(results.iterdir())


@pytest.mark.timeout(600)
def test_measures_print_and_write_what_they_should_and_count_what_was_done(tmp_path: Path) -> None:
    idle = ("idle", "--stack", "embedded", "--orders", "3", "--pause", "0.2", "sweep", "--finished", "300")
    hot_row = ("hot-row", "--rounds", "1", "--orders", "8", "--warm-up", "2", "--in-flight", "4", "--stock", "3")

    measures = (*idle, "--sweeps", "4", *hot_row, "memory", "--tasks", "20", "--in-flight", "4")
    printed, results = run(tmp_path, "own", *measures)

    written = {path.name.split("-2")[0]: json.loads(path.read_text()) for path in results}
    assert set(written) == {"own-idle", "own-sweep", "own-hot-row", "own-memory"}
    for measured in written.values():
        assert measured["wrong"] == []
        assert measured["versions"]["postgresql"]
        assert all(figure["measure"] in printed for figure in measured["figures"])
    for pattern in ("orchestration", "choreography"):
        details = written["own-idle"]["details"][f"embedded, {pattern}"]
        assert len(details["ms"]) == 3
        assert {hop["step"] for hop in details["hops"]} >= {"reserve_stock", "process_payment", "complete_order"}
    sold = next(figure for figure in written["own-hot-row"]["figures"] if figure["measure"].startswith("of 8 orders"))
    assert (sold["target"], sold["measured"], sold["met"]) == ("= 3", 3, True)
    last = written["own-memory"]["details"]["samples"][-1]
    assert max(worker["tasks"] for worker in last.values()) >= 20
    assert all(size > 1 for worker in last.values() for size in worker["megabytes"])
    assert "WRONG" not in printed


def saga(status: SagaStatus, seconds: float = 1) -> Saga:
    ended = NOON + timedelta(seconds=seconds)
    return Saga("a-saga", status, NOON, ended, ended if status is SagaStatus.COMPLETED else None)


COMPLETED, UNDONE = saga(SagaStatus.COMPLETED), saga(SagaStatus.COMPENSATED)


def test_a_book_that_is_sold_as_often_as_there_are_copies_is_well() -> None:
    assert oversold([COMPLETED, COMPLETED, UNDONE], 2, (0, 0)) == oversold([COMPLETED], 3, (2, 0)) == []


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        ([COMPLETED, COMPLETED, COMPLETED], (0, 0)),
        ([COMPLETED, UNDONE, UNDONE], (1, 0)),
        ([COMPLETED, COMPLETED, saga(SagaStatus.STUCK)], (0, 0)),
        ([COMPLETED, COMPLETED, UNDONE], (-1, 0)),
        ([COMPLETED, COMPLETED, UNDONE], (0, 1)),
    ],
)
def test_a_book_that_is_oversold_or_held_back_is_found(ended: list[Saga], left: tuple[int, int]) -> None:
    assert oversold(ended, 2, left)


def test_a_figure_tells_its_target_and_whether_it_is_met() -> None:
    figures = [Figure("a", 5, "ms", at_most=5), Figure("b", 0.9, at_least=0.95), Figure("c", 4, at_most=3, at_least=3)]

    assert [(one.target, one.met) for one in figures] == [("≤ 5 ms", True), ("≥ 0.95", False), ("= 3", False)]


def test_a_step_waits_from_the_end_of_the_last_step_before_it() -> None:
    def step(name: str, began: float, ended: float) -> Step:
        return Step(name, NOON + timedelta(seconds=began), NOON + timedelta(seconds=ended))

    # reserve and pay go side by side; ship waits for the later of the two
    done = [step("reserve", 1, 2), step("pay", 1.5, 4), step("ship", 4.25, 5)]

    found = hops([COMPLETED], {COMPLETED.id: done})

    assert [(hop.step, hop.waited_ms, hop.took_ms) for hop in found] == [
        ("reserve", 1000, 1000),
        ("pay", 1500, 2500),
        ("ship", 250, 750),
    ]
