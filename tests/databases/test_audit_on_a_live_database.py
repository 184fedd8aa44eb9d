"""The audit of a database in use: all of it is seen as it was at one moment, and a million orders need no memory."""

from typing import Any

from sqlalchemy import event, text

from app.runtime import Runtime
from bench.million_orders import audited, fill
from tests.testkit.servers import fresh_postgresql_database, require_postgresql
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, place


def test_all_checks_see_the_same_moment(here: Runtime) -> None:
    place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    began = False

    @event.listens_for(here.database.engine, "after_cursor_execute")
    def lose_all_events(_: Any, __: Any, statement: str, *___: object) -> None:
        nonlocal began
        if not began and "FROM orders" in statement:
            began = True
            with here.database.transaction() as session:
                session.execute(text("DELETE FROM events"))

    first = list(audit())

    assert began
    assert first == []
    assert {violation.check for violation in audit()} == {"every order that ended says so"}


def test_ten_times_the_orders_need_no_more_memory() -> None:
    require_postgresql()
    megabytes = []
    for orders in (1_000, 8_000):
        with fresh_postgresql_database() as url:
            fill(url, orders)
            result = audited(url)
            assert result.violated == set()
            megabytes.append(result.megabytes)

    # unless it is streamed, what the audit reads of eight thousand orders takes more than twice this
    assert megabytes[1] - megabytes[0] < 8
