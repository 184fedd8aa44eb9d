"""Every batch of every kind of saga, cut off by a kill at every boundary: nothing is lost and nothing done twice."""

from collections import Counter
from concurrent.futures import Future

import pytest

from tests.simulation.batches import CROWDS, Tally, cut_all
from tests.simulation.crew import Crew
from tests.simulation.mishaps import PUBLISHING, Boundary

TOGETHER = ("orders", "inventory", "payments", "shipping")
"""Whose messages are done together; of the last two those that call no gateway."""


@pytest.fixture(scope="module")
def tallies(crew: Crew) -> dict[str, Future[Tally]]:
    return {name: crew.submit(cut_all, name) for name in CROWDS}


@pytest.mark.parametrize("crowd", CROWDS)
def test_no_kill_in_the_middle_of_a_batch_breaks_an_order(crowd: str, tallies: dict[str, Future[Tally]]) -> None:
    tally = tallies[crowd].result()

    assert not tally.finds, "\n\n".join(tally.finds[:3])
    assert tally.kills.total() >= 50


def test_what_was_cut_off_and_where(tallies: dict[str, Future[Tally]]) -> None:
    batches: Counter[str] = Counter()
    kills: Counter[Boundary] = Counter()
    for tally in tallies.values():
        batches += tally.result().batches
        kills += tally.result().kills

    print(*(f"{count:4} batches of {task}" for task, count in batches.items()), sep="\n")
    print(*(f"{count:4} kills {boundary}" for boundary, count in kills.items()), sep="\n")
    assert {task.partition(".")[0] for task in batches} == {*TOGETHER, "orchestrator"}
    # in the first phase; and when its work was committed, before, between and after the messages of its tasks
    for boundary in (Boundary.BEFORE_TRANSACTION, Boundary.AFTER_COMMIT, *PUBLISHING):
        assert kills[boundary] >= 60, boundary
