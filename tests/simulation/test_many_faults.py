"""Random schedules: several orders, several faults, from seeds that repeat."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.crew import in_world
from tests.simulation.many_faults import Find, run
from tests.simulation.world import World

RUNS = 400  # `make simulate` plays as many as it is asked for
PARTS = 2
"""One test each, so that none comes near the limit of time for a test."""


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_goes_wrong_every_order_ends_and_everything_adds_up(part: int, crew: ProcessPoolExecutor) -> None:
    seeds = range(part * RUNS // PARTS, (part + 1) * RUNS // PARTS)

    finds = [find for find in crew.map(in_world(run), seeds) if find]

    assert not finds, "\n\n".join(map(str, finds[:3]))


def test_a_seed_repeats_exactly(world: World) -> None:
    def told(seed: int) -> tuple[Find | None, list[str]]:
        return run(world, seed), world.journal

    first = [told(seed) for seed in range(5)]

    assert [told(seed) for seed in range(5)] == first
    assert len({tuple(journal) for _, journal in first}) == 5


def test_everything_that_can_go_wrong_does(world: World) -> None:
    told = ""
    for seed in range(60):
        assert run(world, seed) is None
        told += "\n".join(world.journal)

    for what in ("killed", "held up", "told that the broker is gone", "to come again", "lose", "is held back", "later"):
        assert what in told, what
    for what in ("sweep", "cancel", "resume", "again", "shipping decline", "3 book-123", "deliver together"):
        assert what in told, what
