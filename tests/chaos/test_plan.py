"""What a seed fixes, and what is held against what became of the orders."""

import random

import pytest

from tests.chaos.outcome import Ended, judge
from tests.chaos.plan import SAGA_TYPES, Blow, Target, Wish, blows, wishes

TARGETS = [Target("web", ["group", "child"], 90), Target("database", ["fast"], 5, sure=True)]


def test_a_seed_draws_the_same_plan_again_and_another_one_does_not() -> None:
    def draw(seed: int) -> tuple[list[Wish], list[Blow]]:
        rng = random.Random(seed)
        return wishes(rng, ["a", "b", "c"], 300, 10), blows(rng, TARGETS, 1, 10)

    orders, [blow] = draw(1)
    assert draw(1) == (orders, [blow])
    assert draw(2) != (orders, [blow])
    assert blow.target == "database"  # even a single one strikes what is sure to be struck
    assert 120 < sum("simulate" in wish.body for wish in orders) < 180
    assert {wish.body["saga_type"] for wish in orders} == set(SAGA_TYPES)


HEALTHY = Wish(0, "key", {"saga_type": "order"}, doomed=False)
DOOMED = Wish(0, "key", {"saga_type": "order", "simulate": {"payments": "decline"}}, doomed=True)
ANSWERED = {"key": "1"}


@pytest.mark.parametrize(
    ("wish", "answered", "kept", "violation"),
    [
        (HEALTHY, ANSWERED, ("1", "completed", None), None),
        (HEALTHY, ANSWERED, ("1", "compensated", "ship_stock: no result before its deadline"), None),
        (DOOMED, ANSWERED, ("1", "compensated", "process_payment: declined, as simulated"), None),
        (HEALTHY, ANSWERED, ("1", "running", None), "is running"),
        (HEALTHY, ANSWERED, ("1", "stuck", "refund_payment"), "is stuck"),
        (HEALTHY, ANSWERED, ("1", "compensated", "process_payment: KeyError: 'x'"), "for no good reason"),
        (HEALTHY, ANSWERED, ("1", "compensated", "process_payment: unavailable, as simulated"), "for no good reason"),
        (DOOMED, ANSWERED, ("1", "completed", None), "had to fail"),
        (HEALTHY, ANSWERED, None, "key: no order is kept"),
        (HEALTHY, ANSWERED, ("2", "completed", None), "key: the client was told 1, kept is 2"),
        (HEALTHY, {}, ("2", "completed", None), "key: it was never accepted"),
    ],
)
def test_an_order_that_was_lost_doubled_or_ended_as_it_must_not_is_named(
    wish: Wish, answered: dict[str, str], kept: tuple[str, str, str | None] | None, violation: str | None
) -> None:
    named = list(judge([wish], answered, [Ended("key", *kept, seconds=1.0)] if kept else []))

    assert len(named) == (violation is not None)
    assert all(str(violation) in one for one in named)
