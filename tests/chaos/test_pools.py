"""Connections outlive nothing, pools do: processes go on after a restart of PostgreSQL without one of their own."""

from tests.chaos.conftest import OpenStack
from tests.chaos.stack import Stack
from tests.testkit.private_servers import FAST, IMMEDIATE
from tests.testkit.processes import children
from tests.testkit.shop import Shop

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")


def test_the_same_processes_go_on_after_postgresql_restarts(start: OpenStack) -> None:
    stack = start("redis")
    book = stack.shop.add_book(stock=100)
    before_the_restarts = order_of_each_kind(stack.shop, book)
    processes = all_processes(stack)

    for way in (IMMEDIATE, FAST):
        stack.servers["postgresql"].down(way)
        stack.servers["postgresql"].start()
        after_a_restart = order_of_each_kind(stack.shop, book)
        assert after_a_restart == before_the_restarts == ["completed"] * 3

    assert all_processes(stack) == processes
    assert stack.supervisor.ended_by_themselves.total() == 0


def order_of_each_kind(shop: Shop, book: str) -> list[str]:
    """Place an order of each kind, at once accepted, and return how they end."""
    placed = [shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES]
    return [shop.settle(order["saga_id"])["status"] for order in placed]


def all_processes(stack: Stack) -> dict[str, list[int]]:
    """Return the processes of each role, those of its pool included."""
    return {name: [role.pid, *children(role.pid)] for name, role in stack.supervisor.roles.items()}
