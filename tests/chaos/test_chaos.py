"""Short runs of what ``make chaos`` does at length, and what people ask about first, each on one running stack."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.chaos.outcome import LOST, REDRIVEN, Report
from tests.chaos.plan import SAGA_TYPES, Blow, Wish, wishes
from tests.chaos.run import add_books, run, unleash
from tests.chaos.stack import BROKERS, EMBEDDED, STACKS, Stack
from tests.chaos.supervisor import GROUP
from tests.testkit.private_servers import FAST, FLUSH, IMMEDIATE, KILL
from tests.testkit.processes import children, wait_for

pytestmark = [
    # longer than a run waits for its orders to settle: one that does not settle is to say what it left behind
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("logs"),
]

on_redis = pytest.mark.parametrize("stack", ["redis"], indirect=True)


@pytest.mark.parametrize("stack", STACKS, indirect=True)
def test_whatever_is_killed_every_order_ends_right(stack: Stack) -> None:
    blows = 8 if stack.servers else 3

    report = run(stack, seed=3, orders=50, kills=blows)

    assert_settled(report, 50)
    restarts = report.counts["restarts of servers"]
    assert report.counts["kills"].total() + restarts.total() == blows, report
    assert {restart.split()[0] for restart in restarts} == set(stack.servers), report


@pytest.mark.parametrize("stack", BROKERS, indirect=True)
def test_workers_killed_amid_their_batches_do_nothing_twice(stack: Stack) -> None:
    """Orders for two books, in crossed order, arrive faster than they are done; two who do them in batches die."""
    orders = 90
    books = [stack.shop.add_book(orders) for _ in range(2)]
    wishes = [Wish(0, f"{books[0]}-{number}", order_of(books, number), doomed=False) for number in range(orders)]
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = stack.shop.rows(deadlocks)

    report = unleash(stack, wishes, [Blow(1.5, "inventory", GROUP, 0), Blow(2.5, "orders", GROUP, 0)], "in batches")

    assert_settled(report, orders)
    assert report.counts["kills"].total() == 2
    assert report.counts["orders"]["completed"] == orders, report
    assert [stack.shop.stock(book) for book in books] == [(0, 0)] * 2
    # a row keeps the number of its transaction: one that does a single message writes a single event
    theirs = "(SELECT order_id FROM order_requests WHERE key LIKE :keys)"
    counted = f"SELECT count(*), count(DISTINCT xmin::text) FROM events WHERE aggregate_id IN {theirs}"
    [[events, transactions]] = stack.shop.rows(counted, keys=f"key:{books[0]}-%")
    assert transactions < 0.9 * events
    assert stack.shop.rows(deadlocks) == before


def order_of(books: Sequence[str], number: int) -> dict[str, Any]:
    items = [{"product_id": book, "quantity": 1} for book in (books if number % 2 else books[::-1])]
    return {"customer_id": "customer-001", "items": items, "saga_type": SAGA_TYPES[number % len(SAGA_TYPES)]}


@on_redis
def test_redis_emptied_in_the_middle_of_two_hundred_orders_costs_none(stack: Stack) -> None:
    orders = wishes(random.Random(1), add_books(stack, 2000), number=200, seconds=2)

    # while nobody takes messages of payments, there are some to lose
    blows = [Blow(0.3, "payments", GROUP, pause=2), Blow(1.5, "redis", FLUSH, pause=0)]
    report = unleash(stack, orders, blows, "emptied in the middle")

    assert_settled(report, 200)
    assert report.counts["restarts of servers"]["redis flush"] == 1
    assert report.numbers[LOST] > 0, "the flush lost no message"


@on_redis
def test_the_same_processes_go_on_after_postgresql_restarts(stack: Stack) -> None:
    book = stack.shop.add_book(stock=100)
    processes, ended = all_processes(stack), stack.supervisor.ended_by_themselves.total()

    for way in (IMMEDIATE, FAST):
        stack.servers["postgresql"].down(way)
        stack.servers["postgresql"].start()
        assert order_of_each_kind(stack, book) == ["completed"] * 3

    assert all_processes(stack) == processes
    assert stack.supervisor.ended_by_themselves.total() == ended


@on_redis
def test_orders_accepted_while_the_broker_is_away_are_done_when_it_is_back(stack: Stack) -> None:
    book = stack.shop.add_book(stock=3)
    stack.servers["redis"].down(KILL)

    placed = [stack.shop.order(book, saga_type=saga_type)["saga_id"] for saga_type in SAGA_TYPES]
    wait_for("no deadline to run", lambda: {stack.shop.saga(one)["deadline_at"] for one in placed} == {None})
    stack.servers["redis"].start()

    assert [stack.shop.settle(saga_id)["status"] for saga_id in placed] == ["completed"] * 3
    assert stack.shop.violations() == []


@pytest.mark.parametrize("stack", [EMBEDDED], indirect=True)
def test_an_embedded_shop_killed_in_the_middle_of_a_hundred_orders_loses_none(stack: Stack) -> None:
    orders = wishes(random.Random(1), add_books(stack, 1000), number=100, seconds=3)

    report = unleash(stack, orders, [Blow(at=1.5, target="run", way=GROUP, pause=0)], "killed in the middle")

    assert_settled(report, 100)
    assert report.counts["kills"]["run"] == 1
    assert report.numbers[REDRIVEN] > 0, "the kill lost no message"


def order_of_each_kind(stack: Stack, book: str) -> list[str]:
    """Place an order of each kind, at once accepted, and return how they end."""
    placed = [stack.shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES]
    return [stack.shop.settle(order["saga_id"])["status"] for order in placed]


def all_processes(stack: Stack) -> dict[str, list[int]]:
    """Return the processes of each role, those of its pool included."""
    return {name: [role.pid, *children(role.pid)] for name, role in stack.supervisor.roles.items()}


def assert_settled(report: Report, orders: int) -> None:
    """Every order is there, once, and ended as it was told to; the audit is clean and nobody's help was needed."""
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.counts["orders"].total() == orders, told
    assert report.counts["stuck, and resumed"].total() == 0, told
