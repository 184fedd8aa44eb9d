"""Finding sagas: what is found, in which order, and that it costs little wherever the matches are among many."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from app.runtime import Runtime
from bench.generated_sagas import generate
from durable_sagas.definition import SagaStatus
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance
from tests.databases.plans import (
    Executed,
    explain,
    leave_to_the_test,
    maintain,
    nodes,
    on_postgresql,
    on_sqlite,
    sqlite_plan,
    steps_of_the_machine,
)
from workflows.read_side import queries, saga_search

TYPES = ("order", "declared-no-more")
STEPS = ("reserve_stock", "process_payment")
CUSTOMERS = ("guest", "o'brien %", "")

MANY, PER_PAGE, COUNTED = 50_000, 20, 50


def a_saga(**columns: Any) -> SagaInstance:
    moment, saga_id = datetime(2026, 1, 1, tzinfo=UTC), new_id()
    return SagaInstance(
        **{
            "id": saga_id,
            "aggregate_id": saga_id,
            "saga_type": "order",
            "status": SagaStatus.COMPLETED,
            "state": "STARTED",
            "steps": [],
            "payload": {},
            "state_history": [],
            "created_at": moment,
            "updated_at": moment,
            **columns,
        }
    )


def random_sagas(count: int) -> list[SagaInstance]:
    rng = random.Random(count)
    return [
        a_saga(
            status=(status := rng.choice(list(SagaStatus))),
            saga_type=rng.choice(TYPES),
            current_step=rng.choice([*STEPS, None]) if status in saga_search.UNFINISHED else None,
            payload={"customer_id": customer} if (customer := rng.choice(CUSTOMERS)) else {},
        )
        for _ in range(count)
    ]


def store(here: Runtime, sagas: Sequence[SagaInstance]) -> None:
    with here.database.transaction() as session:
        session.add_all(sagas)


def all_pages(limit: int, **filters: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = queries.sagas(**filters, after=found[-1] if found else None, limit=limit)
        found.extend(saga.id for saga in page.rows)
        if not page.more:
            return found


def test_every_combination_of_filters_finds_what_a_look_at_each_saga_finds(here: Runtime) -> None:
    sagas = random_sagas(200)
    store(here, sagas)
    newest_first = sorted(sagas, key=lambda saga: saga.id, reverse=True)

    for status, saga_type, step, customer in product(
        [None, *SagaStatus],
        [None, *TYPES, "never-declared"],
        [None, STEPS[0], "nowhere"],
        [None, *CUSTOMERS[:2], "nobody"],
    ):
        wanted = [
            saga.id
            for saga in newest_first
            if (status is None or saga.status == status)
            and (saga_type is None or saga.saga_type == saga_type)
            and (step is None or saga.current_step == step)
            and (customer is None or saga.payload.get("customer_id") == customer)
        ]
        filters = {"status": status, "saga_type": saga_type, "step": step, "customer_id": customer}
        assert all_pages(limit=max(len(wanted) // 2, 1), **filters) == wanted, filters


@pytest.mark.parametrize("filters", [{}, {"saga_type": "order"}])
def test_pages_give_each_saga_once_while_new_ones_arrive(here: Runtime, filters: dict[str, Any]) -> None:
    placed = [a_saga() for _ in range(25)]
    store(here, placed)

    seen: list[str] = []
    more = True
    while more:
        page = queries.sagas(**filters, after=seen[-1] if seen else None, limit=4)
        seen.extend(saga.id for saga in page.rows)
        more = page.more
        store(here, [a_saga(), a_saga(saga_type="order-choreography")])

    assert seen == sorted((saga.id for saga in placed), reverse=True)


def test_sagas_are_counted_by_status_and_stuck_ones_sorted_by_what_they_are_stuck_on(here: Runtime) -> None:
    sagas = random_sagas(100)
    for number, saga in enumerate(saga for saga in sagas if saga.status == SagaStatus.STUCK):
        saga.stuck_reason = "no answer" if number else "no room"
    store(here, sagas)

    counts, incidents = saga_search.counts(), saga_search.incidents(limit=2)

    for status in SagaStatus:
        assert counts[status] == saga_search.Count(sum(saga.status == status for saga in sagas))
    stuck = [(saga.current_step, saga.stuck_reason) for saga in sagas if saga.status == SagaStatus.STUCK]
    assert incidents.sagas == saga_search.Count(len(stuck))
    for group in incidents.groups:
        assert group.sagas == stuck.count((group.step, group.reason))
    assert len(incidents.groups) + incidents.hidden == len(set(stuck))
    assert incidents.groups[0].sagas == max(map(stuck.count, stuck))


RARE: list[dict[str, Any]] = [
    {"status": SagaStatus.STUCK},
    {"saga_type": "declared-no-more"},
    {"step": "rare_step"},
    {"customer_id": "rare"},
    {"status": SagaStatus.STUCK, "saga_type": "declared-no-more"},
    {"status": SagaStatus.COMPLETED, "saga_type": "declared-no-more"},
    {"status": SagaStatus.COMPLETED, "saga_type": "order"},  # common, but all of them are old
    {"status": SagaStatus.STUCK, "customer_id": "frequent"},
    {"saga_type": "declared-no-more", "customer_id": "frequent"},
    {"customer_id": "rare", "step": "process_payment"},
    {"customer_id": "frequent", "step": "rare_step"},
    {"customer_id": "frequent", "step": "rare_step", "status": SagaStatus.STUCK},
    {"saga_type": "declared-no-more", "step": "rare_step"},
    {"customer_id": "rare", "saga_type": "declared-no-more", "status": SagaStatus.STUCK, "step": "rare_step"},
    {},
]
"""Filters each of which matches a few, the oldest, beside very many that do not, or only in part."""

OLD = """
    UPDATE saga_instances SET status = 'stuck', saga_type = 'declared-no-more', current_step = 'rare_step',
           payload = '{"customer_id": "rare"}' WHERE order_id IN ('order-1', 'order-2');
    UPDATE saga_instances SET status = 'stuck', current_step = 'rare_step',
           payload = '{"customer_id": "frequent"}' WHERE order_id = 'order-3';
    UPDATE saga_instances SET saga_type = 'declared-no-more', status = 'completed', current_step = NULL,
           payload = '{"customer_id": "frequent"}' WHERE order_id = 'order-4'"""

ALIKE = """
    UPDATE saga_instances SET status = 'running', saga_type = 'order-choreography', current_step = NULL,
           payload = '{"customer_id": "frequent"}'"""


@pytest.fixture
def many(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few old sagas of every kind, and very many new ones that are all alike; what the planner believes is old, too.

    Of each status far fewer are counted than there are of the common one: where nearly all of a table has to be
    counted, the planner may as well choose to scan it.
    """
    monkeypatch.setattr(saga_search, "COUNTED", dict.fromkeys(SagaStatus, COUNTED))
    monkeypatch.setattr(saga_search, "SAMPLE_SIZE", 2)
    generate(here, 1, 2000, only="saga_instances")
    execute(here, OLD)
    if here.database.engine.dialect.name == "postgresql":
        leave_to_the_test(here, "saga_instances")
        maintain(here, "ANALYZE")
    generate(here, 2001, MANY, only="saga_instances", analyze=False)
    execute(here, f"{ALIKE} WHERE id > '00000001-0000-7000-8000-0000000007d0'")


def execute(here: Runtime, statements: str) -> None:
    with here.database.transaction() as session:
        for statement in statements.split(";"):
            session.connection().exec_driver_sql(statement)


def look(executed: list[Executed], filters: dict[str, Any]) -> list[Executed]:
    """Look for sagas; returns what that asked of the database."""
    executed.clear()
    queries.sagas(**filters, limit=PER_PAGE)
    return [one for one in executed if "saga_instances" in one[0]]


def overview(executed: list[Executed]) -> list[Executed]:
    """Look at what stands above the list, which is counted to its limit; returns what that asked of the database."""
    executed.clear()
    assert saga_search.counts()[SagaStatus.RUNNING] == saga_search.Count(COUNTED, more=True)
    assert saga_search.incidents(limit=5).sagas == saga_search.Count(2, more=True)
    return [one for one in executed if "saga_instances" in one[0]]


def scans(here: Runtime, one: Executed) -> list[dict[str, Any]]:
    """Return the nodes of a statement's plan that read the table; each reads an index."""
    found = [node for node in nodes(explain(here, one)) if "Relation Name" in node]
    assert {node["Node Type"] for node in found} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, one
    return found


def read(node: dict[str, Any]) -> int:
    """Return how many rows a node of a plan looked at."""
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


@on_postgresql
@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("statistics", ["old", "new", "blind"])
def test_on_postgresql_a_page_reads_few_rows_wherever_the_matches_are(
    here: Runtime, executed: list[Executed], statistics: str
) -> None:
    if statistics == "new":
        maintain(here, "VACUUM ANALYZE")
    elif statistics == "blind":  # a sample of very many rows may miss the few
        execute(here, ALIKE)
        maintain(here, "VACUUM ANALYZE")
        execute(here, OLD)

    for filters in RARE:
        for one in look(executed, filters):
            assert sum(read(node) for node in scans(here, one)) <= 12 * PER_PAGE, filters
    assert max(read(node) for one in overview(executed) for node in scans(here, one)) < 3000


@on_sqlite
@pytest.mark.usefixtures("many")
def test_on_sqlite_a_page_does_little_work_wherever_the_matches_are(here: Runtime, executed: list[Executed]) -> None:
    for filters in RARE:
        statements = look(executed, filters)
        plans = [sqlite_plan(here, one) for one in statements]
        assert not [plan for plan in plans if "SCAN saga_instances" in plan and "PRIMARY" not in plan], filters
        assert sum(steps_of_the_machine(here, one) for one in statements) < 1000 * PER_PAGE, filters
    overview(executed)
    executed.clear()
    saga_search.find_by_id(new_id())
    assert len(executed) >= 5
    assert not [plan for plan in (sqlite_plan(here, one) for one in [*executed]) if plan.startswith("SCAN ")]
