"""Short runs of what ``make chaos`` does at length, and the two losses that people ask about first."""

import random

import pytest

from tests.chaos.conftest import OpenStack
from tests.chaos.plan import Blow, wishes
from tests.chaos.report import Report
from tests.chaos.run import add_books, run, unleash
from tests.chaos.supervisor import GROUP
from tests.testkit.private_servers import FLUSH

# longer than a run waits for its orders to settle: one that does not settle is to say what it left behind
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("name", "blows"), [("rabbitmq", 10), ("redis", 10), ("embedded", 4)])
def test_whatever_is_killed_every_order_ends_right(start: OpenStack, name: str, blows: int) -> None:
    stack = start(name)

    report = run(stack, seed=3, orders=50, kills=blows)

    assert_settled(report, 50)
    assert report.kills.total() + report.restarts.total() == blows, report
    assert {restart.split()[0] for restart in report.restarts} == set(stack.servers), report


def test_an_embedded_shop_killed_in_the_middle_of_a_hundred_orders_loses_none(start: OpenStack) -> None:
    stack = start("embedded")
    orders = wishes(random.Random(1), add_books(stack, 1000), number=100, seconds=3)

    report = unleash(stack, orders, [Blow(at=1.5, target="run", way=GROUP, pause=0)], "killed in the middle")

    assert_settled(report, 100)
    assert report.kills["run"] == 1
    assert report.messages.redriven > 0, "the kill lost no message"


def test_redis_emptied_in_the_middle_of_five_hundred_orders_costs_none(start: OpenStack) -> None:
    stack = start("redis", stall_seconds=10)  # so many orders at once wait longer in their queues than a few do
    orders = wishes(random.Random(1), add_books(stack, 5000), number=500, seconds=5)

    report = unleash(stack, orders, [Blow(at=3, target="redis", way=FLUSH, pause=0)], "emptied in the middle")

    assert_settled(report, 500)
    assert report.restarts["redis flush"] == 1
    assert report.lost_messages > 0, "the flush lost no message"


def assert_settled(report: Report, orders: int) -> None:
    """Every order is there, once, and ended as it was told to; the audit is clean and nobody's help was needed."""
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.statuses.total() == orders, told
    assert report.stuck.total() == 0, told
