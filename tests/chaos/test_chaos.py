"""Short runs of what ``make chaos`` does at length, and what people ask about first, each on one running stack."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.chaos.outcome import REDRIVEN, Report
from tests.chaos.plan import SAGA_TYPES, Blow, Wish, wishes
from tests.chaos.run import add_books, run, unleash
from tests.chaos.stack import Stack
from tests.chaos.supervisor import GROUP
from tests.testkit.private_servers import FAST, FLUSH, IMMEDIATE, KILL
from tests.testkit.processes import children, wait_for

pytestmark = [
    # longer than a run waits for its orders to settle: one that does not settle is to say what it left behind
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("logs"),
]

on_redis = pytest.mark.parametrize("stack", ["redis"], indirect=True)
embedded = pytest.mark.parametrize("stack", ["embedded"], indirect=True)


@pytest.mark.parametrize("stack", ["rabbitmq"], indirect=True)
def test_with_rabbitmq_whatever_is_killed_every_order_ends_right(stack: Stack) -> None:
    assert_right_whatever_is_killed(stack, blows=8)


@pytest.mark.parametrize("stack", ["rabbitmq"], indirect=True)
def test_with_rabbitmq_workers_killed_amid_their_batches_do_nothing_twice(stack: Stack) -> None:
    assert_done_together(stack)


@on_redis
def test_with_redis_workers_killed_amid_their_batches_do_nothing_twice(stack: Stack) -> None:
    assert_done_together(stack)


@on_redis
def test_with_redis_whatever_is_killed_every_order_ends_right(stack: Stack) -> None:
    assert_right_whatever_is_killed(stack, blows=8)


@on_redis
def test_redis_emptied_in_the_middle_of_two_hundred_orders_costs_none(stack: Stack) -> None:
    orders = wishes(random.Random(1), add_books(stack, 2000), number=200, seconds=2)

    report = unleash(stack, orders, [Blow(at=1.5, target="redis", way=FLUSH, pause=0)], "emptied in the middle")

    assert_settled(report, 200)
    assert report.restarts["redis flush"] == 1
    assert report.lost_messages > 0, "the flush lost no message"


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


@embedded
def test_embedded_whatever_is_killed_every_order_ends_right(stack: Stack) -> None:
    assert_right_whatever_is_killed(stack, blows=3)


@embedded
def test_an_embedded_shop_killed_in_the_middle_of_a_hundred_orders_loses_none(stack: Stack) -> None:
    orders = wishes(random.Random(1), add_books(stack, 1000), number=100, seconds=3)

    report = unleash(stack, orders, [Blow(at=1.5, target="run", way=GROUP, pause=0)], "killed in the middle")

    assert_settled(report, 100)
    assert report.kills["run"] == 1
    assert report.messages[REDRIVEN] > 0, "the kill lost no message"


def assert_done_together(stack: Stack, orders: int = 90) -> None:
    """Place orders for two books, in crossed order, faster than they are done; kill two who do them in batches."""
    books = [stack.shop.add_book(orders) for _ in range(2)]
    wishes = [Wish(0, f"{books[0]}-{number}", order_of(books, number), doomed=False) for number in range(orders)]
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = stack.shop.rows(deadlocks)

    report = unleash(stack, wishes, [Blow(1.5, "inventory", GROUP, 0), Blow(2.5, "orders", GROUP, 0)], "in batches")

    assert_settled(report, orders)
    assert report.kills.total() == 2
    assert report.statuses["completed"] == orders, report
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


def assert_right_whatever_is_killed(stack: Stack, blows: int) -> None:
    report = run(stack, seed=3, orders=50, kills=blows)

    assert_settled(report, 50)
    assert report.kills.total() + report.restarts.total() == blows, report
    assert {restart.split()[0] for restart in report.restarts} == set(stack.servers), report


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
    assert report.statuses.total() == orders, told
    assert report.stuck.total() == 0, told
