"""Every single fault at every place, in every kind of saga, whether it completes or is undone."""

from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulation.crew import in_world
from tests.simulation.single_faults import SCENARIOS, Fault, Tally, run_all


@pytest.fixture(scope="module")
def tallies(crew: ProcessPoolExecutor) -> dict[str, Future[Tally]]:
    return {name: crew.submit(in_world(run_all), name) for name in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_single_fault_breaks_an_order(scenario: str, tallies: dict[str, Future[Tally]]) -> None:
    tally = tallies[scenario].result()

    assert not tally.finds, "\n\n".join(tally.finds[:3])
    assert set(tally.runs) == set(Fault)


def test_how_many_runs_that_were(tallies: dict[str, Future[Tally]]) -> None:
    runs = sum((tally.result().runs for tally in tallies.values()), Counter[Fault]())

    print(*(f"{count:5} runs: {fault}" for fault, count in runs.items()), f"{runs.total():5} runs", sep="\n")
    assert runs.total() > 2000
    assert all(count > 100 for count in runs.values())
