"""Every statement of the runbook runs on the present schema, and finds what it says it finds."""

import pytest
from sqlalchemy import text

from app.runtime import Runtime
from app.sagas import sagas
from tests.documents.document import statements
from tests.testkit.messages import Post
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

FINDS_NOTHING = "-- no rows: all is well"


@pytest.fixture
def stuck(here: Runtime) -> PlacedOrder:
    """A saga that is stuck after an operator resumed it."""
    fails = (("shipping", "decline"), ("payments", "undo-fail:99"))
    found = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION, simulate=fails))
    sagas.resume(found.saga_id, by="Ann")
    return found


def test_every_statement_runs_and_finds_what_it_says(here: Runtime, stuck: PlacedOrder, post: Post) -> None:
    place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))  # and waits

    def finds(sql: str) -> int:
        """Return how many rows a statement finds, or changes."""
        with here.database.transaction() as session:
            result = session.execute(text(sql.replace("SAGA_ID", stuck.saga_id).replace("ORDER_ID", stuck.order_id)))
            return len(result.all()) if result.returns_rows else int(result.rowcount)  # type: ignore[attr-defined]

    asked = statements()
    assert len(asked) > 10
    assert [sql for sql in asked if finds(sql)] == [sql for sql in asked if not sql.startswith(FINDS_NOTHING)]
