"""Whatever changes in what people are shown of a saga changes its version, at every commit."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database import Database, after_commit
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import TERMINAL, SagaStatus
from durable_sagas.manual_completion import ManualCompletion
from tests.testkit.messages import Clock, Post
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import versions

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")

SHOWN = (
    "SELECT * FROM saga_instances WHERE id = :saga_id",
    "SELECT * FROM saga_steps WHERE saga_id = :saga_id ORDER BY step, operation",
    "SELECT * FROM events WHERE aggregate_id = :order_id ORDER BY sequence",
    "SELECT * FROM payment_provider_ledger WHERE order_id = :order_id ORDER BY idempotency_key",
    "SELECT * FROM operator_acts WHERE saga_id = :saga_id ORDER BY id",
    "SELECT * FROM carrier_ledger WHERE order_id = :order_id ORDER BY idempotency_key",
)


class Watch:
    """Looks at every saga after each commit, and remembers the version of whatever it saw."""

    def __init__(self, here: Runtime) -> None:
        self.here = here
        self.versions: dict[str, dict[str, str]] = {}

    def look(self) -> None:
        with self.here.database.reading() as session:
            sagas = [tuple(row) for row in session.execute(text("SELECT id, order_id FROM saga_instances"))]
            shown = {saga_id: self._shown(session, saga_id, order_id) for saga_id, order_id in sagas}
        for saga_id, state in shown.items():
            tag = versions.version(saga_id).tag
            seen = self.versions.setdefault(saga_id, {})
            assert seen.setdefault(state, tag) == tag, "a version of something that has not changed"
            assert len(set(seen.values())) == len(seen), f"not noticed: {state}"

    def states(self, placed: PlacedOrder) -> int:
        return len(self.versions[placed.saga_id])

    def _shown(self, session: Session, saga_id: str, order_id: str) -> str:
        ids = {"saga_id": saga_id, "order_id": order_id}
        rows = [[list(row) for row in session.execute(text(query), ids)] for query in SHOWN]
        return json.dumps(rows, default=str)


@pytest.fixture
def watch(here: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Look after every commit, at a clock that stands still: no change may hide behind a time."""
    watch = Watch(here)
    transaction = Database.transaction

    @contextmanager
    def watched(database: Database) -> Iterator[Session]:
        with transaction(database) as session:
            after_commit(session, watch.look)
            yield session

    monkeypatch.setattr(Database, "transaction", watched)
    return watch


def order(saga_type: str, book: str = "book-789", **simulate: str) -> PlacedOrder:
    pattern = Pattern.CHOREOGRAPHY if saga_type == "order-choreography" else Pattern.ORCHESTRATION
    chosen: dict[str, Any] = {} if pattern is Pattern.CHOREOGRAPHY else {"saga_type": saga_type}
    return place(NewOrder((Item(book, 1),), pattern, simulate=tuple(simulate.items()), **chosen))


def status(placed: PlacedOrder) -> SagaStatus:
    return versions.version(placed.saga_id).status


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
@pytest.mark.parametrize(
    "simulate",
    [
        {"inventory": "fail:2", "payments": "fail:1"},
        {"payments": "timeout"},
        {"shipping": "timeout", "inventory": "undo-fail:2"},
    ],
)
def test_every_change_on_the_way_of_a_saga_is_noticed(watch: Watch, saga_type: str, simulate: dict[str, str]) -> None:
    placed = order(saga_type, **simulate)

    assert status(placed) in TERMINAL
    assert watch.states(placed) > 5


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_a_resume_and_a_skip_of_what_is_stuck_are_noticed(watch: Watch, saga_type: str) -> None:
    placed = order(saga_type, shipping="decline", payments="undo-fail:14")
    assert status(placed) == SagaStatus.STUCK
    stuck = watch.states(placed)

    sagas.resume(placed.saga_id)
    assert status(placed) == SagaStatus.STUCK
    assert (resumed := watch.states(placed)) > stuck
    sagas.skip(placed.saga_id, ManualCompletion("Ann", "by bank transfer", "process_payment"))

    assert status(placed) == SagaStatus.COMPENSATED
    assert watch.states(placed) > resumed


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_what_is_asked_and_what_the_sweep_does_is_noticed(
    watch: Watch, clock: Clock, post: Post, saga_type: str
) -> None:
    placed = order(saga_type)
    seen = [watch.states(placed)]

    for ask in (sagas.cancel, sagas.resume):
        ask(placed.saga_id, by="Ann")
        seen.append(watch.states(placed))
    for longer in (1.5, 60):  # each time it has stalled
        clock.forward(longer)
        sagas.sweep()
        seen.append(watch.states(placed))
    late = order(saga_type)
    before = watch.states(late)
    clock.forward(10)  # it misses its deadline
    sagas.sweep()

    assert seen == sorted(set(seen))
    assert watch.states(late) > before


def test_a_saga_is_settled_some_time_after_its_end_and_never_while_it_is_stuck(here: Runtime, clock: Clock) -> None:
    placed, stuck = order("order"), order("order", shipping="decline", payments="undo-fail:7")
    just_now = versions.version(placed.saga_id)
    clock.forward(versions.AFTERMATH.total_seconds() + 1)
    later = versions.version(placed.saga_id)

    assert (just_now.status, just_now.final, later.final) == (SagaStatus.COMPLETED, False, True)
    assert just_now.tag == later.tag
    assert not versions.version(stuck.saga_id).final
