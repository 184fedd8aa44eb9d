"""The simulation's tests share one world and one crew: to make them costs more than a run."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.crew import open_crew
from tests.simulation.store import template
from tests.simulation.world import World, open_world


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A world in this process. Closed when the last of the simulation's tests is done."""
    with open_world(template()) as world:
        yield world


@pytest.fixture(scope="module")
def crew() -> Iterator[ProcessPoolExecutor]:
    """One process per processor, each with a world of its own."""
    with open_crew() as crew:
        yield crew
