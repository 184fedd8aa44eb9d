"""The simulation can fail: with any one of the engine's protections taken out it finds that something is wrong."""

import subprocess
import sys

import pytest

from tests.simulation.many_faults import run
from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import World

RUNS = 300
"""Within how many runs a protection's absence must show."""


@pytest.mark.parametrize("protection", MUTATIONS)
def test_the_absence_of_a_protection_shows(protection: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[protection](monkeypatch)

    find = next((find for seed in range(RUNS) if (find := run(world, seed))), None)

    assert find is not None
    assert str(find).endswith(f"again: make simulate SEED={find.seed} RUNS=1")


def test_the_long_run_tells_what_it_found_and_how_to_have_it_again() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--runs", str(RUNS), "--seed", "7", "--without", "sweep"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)

    assert ended.returncode == 1, ended.stderr
    assert "the sweep does not move it" in ended.stdout
    assert "place order-1" in ended.stdout
    assert "again: make simulate SEED=" in ended.stdout
