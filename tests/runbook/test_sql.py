"""Every statement of the runbook runs on the present schema, and finds what it says it finds."""

import pytest
from sqlalchemy import text

from app.runtime import Runtime
from app.sagas import sagas
from tests.documents.document import statements
from tests.testkit.messages import Post
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.seed_data import seed

FINDS_NOTHING = "-- no rows: all is well"


@pytest.fixture
def stuck(here: Runtime) -> PlacedOrder:
    """A shop in which one saga is stuck after an operator resumed it, and another waits."""
    seed()
    found = place(
        NewOrder(
            (Item("item-001", 1),),
            Pattern.ORCHESTRATION,
            simulate=(("shipping", "decline"), ("payments", "undo-fail:99")),
        )
    )
    sagas.resume(found.saga_id, by="Ann")
    return found


@pytest.fixture
def waiting(stuck: PlacedOrder, post: Post) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))


def test_every_statement_runs_and_finds_what_it_says(here: Runtime, stuck: PlacedOrder, waiting: PlacedOrder) -> None:
    asked = statements()
    finding = [sql for sql in asked if found(here, sql, stuck)]

    assert len(asked) > 10
    assert finding == [sql for sql in asked if not sql.startswith(FINDS_NOTHING)]


def found(here: Runtime, sql: str, saga: PlacedOrder) -> int:
    """Return how many rows a statement finds, or changes, of a saga."""
    with here.database.transaction() as session:
        result = session.execute(text(sql.replace("SAGA_ID", saga.saga_id).replace("ORDER_ID", saga.order_id)))
        return len(result.all()) if result.returns_rows else int(result.rowcount)  # type: ignore[attr-defined]
