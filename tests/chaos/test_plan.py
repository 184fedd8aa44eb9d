"""What a seed fixes, and what is held against what became of the orders."""

import random

import pytest

from tests.chaos.outcome import Ended, judge
from tests.chaos.plan import SAGA_TYPES, Blow, Target, Wish, blows, wishes

TARGETS = [Target("web", ["group", "child"], 90), Target("database", ["fast"], 5, sure=True)]
BOOKS = ["a", "b", "c"]


def test_a_seed_draws_the_same_plan_again_and_another_one_does_not() -> None:
    def draw(seed: int) -> tuple[list[Wish], list[Blow]]:
        rng = random.Random(seed)
        return wishes(rng, BOOKS, 300, 10), blows(rng, TARGETS, 1, 10)

    orders, [blow] = draw(1)
    assert draw(1) == (orders, [blow])
    assert draw(2) != (orders, [blow])
    assert blow.target == "database"  # even a single one strikes what is sure to be struck
    assert 120 < sum("simulate" in wish.body for wish in orders) < 180
    assert {wish.body["saga_type"] for wish in orders} == set(SAGA_TYPES)


HEALTHY = Wish(0, "key", {"saga_type": "order"}, doomed=False)
DOOMED = Wish(0, "key", {"saga_type": "order", "simulate": {"payments": "decline"}}, doomed=True)
OUT_OF_TIME = "ship_stock: no result before its deadline"


@pytest.mark.parametrize(
    ("wish", "status", "error", "violation"),
    [
        (HEALTHY, "completed", None, None),
        (HEALTHY, "compensated", OUT_OF_TIME, None),
        (DOOMED, "compensated", "process_payment: declined, as simulated", None),
        (HEALTHY, "running", None, "is running"),
        (HEALTHY, "stuck", "refund_payment", "is stuck"),
        (HEALTHY, "compensated", "process_payment: KeyError: 'x'", "for no good reason"),
        (HEALTHY, "compensated", "process_payment: unavailable, as simulated", "for no good reason"),
        (DOOMED, "completed", None, "had to fail"),
    ],
)
def test_an_order_is_named_if_it_ended_as_it_must_not(
    wish: Wish, status: str, error: str | None, violation: str | None
) -> None:
    named = list(judge([wish], {"key": "1"}, [Ended("key", "1", status, error, 1.0)]))

    assert len(named) == (violation is not None)
    assert all(str(violation) in one for one in named)


def test_a_lost_order_and_one_that_is_another_than_the_client_was_told_are_named() -> None:
    kept = [Ended("key", "2", "completed", None, 1.0)]

    assert list(judge([HEALTHY], {"key": "1"}, [])) == ["key: no order is kept"]
    assert list(judge([HEALTHY], {"key": "1"}, kept)) == ["key: the client was told 1, kept is 2"]
    assert list(judge([HEALTHY], {}, kept)) == ["key: it was never accepted"]
