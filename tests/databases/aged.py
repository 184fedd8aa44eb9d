"""Orders that look as if they had ended long ago: the clock of a process of its own cannot be moved."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from app.runtime import Runtime
from durable_sagas.models import SagaInstance
from workflows.orders import Item, NewOrder, Pattern, place

ORDERS = 20
LONG_AGO = timedelta(days=100)


@pytest.fixture
def old(here: Runtime) -> set[str]:
    """Orders that ended long ago, in both patterns: the ids of their sagas."""
    placed = [place(NewOrder((Item("item-001", 1),), list(Pattern)[number % 2])) for number in range(ORDERS)]
    # an id tells when it was made; 0190 was in 2024
    uuid, as_uuid = ("{0}::text", "::uuid") if here.database.engine.dialect.name == "postgresql" else ("{0}", "")
    aged = f"('0190' || substr({uuid}, 5)){as_uuid}"
    with here.database.transaction() as session:
        session.execute(text(f"UPDATE saga_steps SET saga_id = {aged.format('saga_id')}"))
        before = f"{here.now() - LONG_AGO:%Y-%m-%d %H:%M:%S.%f}"
        ended = f"UPDATE saga_instances SET id = {aged.format('id')}, updated_at = :before"
        session.execute(text(ended), {"before": before})
    return {f"0190{one.saga_id[4:]}" for one in placed}


def sagas(here: Runtime) -> set[str]:
    with here.database.reading() as session:
        return set(session.scalars(select(SagaInstance.id)))
