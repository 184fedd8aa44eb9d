"""What a scrape reads does not grow with the orders that are done: by the plans of what it really executes."""

from app.observability.metrics.gauges import unfinished_sagas
from app.runtime import Runtime
from tests.databases.plans import (
    Executed,
    explain,
    leave_to_the_test,
    maintain,
    nodes,
    on_postgresql,
    on_sqlite,
    pages,
    steps_of_the_machine,
)
from tests.databases.test_sweep_cost import finish_sagas
from tests.testkit.messages import Post
from workflows.orders import Item, NewOrder, Pattern, place

FEW, MANY = 100, 5_000


def place_each() -> None:
    for pattern in Pattern:
        place(NewOrder((Item("item-001", 1),), pattern))


def read(executed: list[Executed]) -> list[Executed]:
    executed.clear()
    assert sum(one.number for one in unfinished_sagas()) == len(Pattern)
    return [one for one in executed if one[0].startswith("SELECT")]


@on_sqlite
def test_on_sqlite_a_scrape_does_as_little_beside_many_finished_sagas_as_beside_few(
    here: Runtime, post: Post, executed: list[Executed]
) -> None:
    place_each()
    done = []
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        finish_sagas(here, first, last)
        done.append(sum(steps_of_the_machine(here, one) for one in read(executed)))

    assert done[0] == done[1] > 0


@on_postgresql
def test_on_postgresql_a_scrape_finds_what_is_unfinished_by_the_index(
    here: Runtime, post: Post, executed: list[Executed]
) -> None:
    leave_to_the_test(here, "saga_instances")
    place_each()
    finish_sagas(here, 1, MANY)
    maintain(here, "VACUUM ANALYZE")

    plans = [explain(here, one) for one in read(executed)]

    used = [node for plan in plans for node in nodes(plan)]
    assert {node["Index Name"] for node in used if "Index Name" in node} == {"ix_saga_instances_status_saga_type_id"}
    assert not [node for node in used if node["Node Type"] == "Seq Scan"]
    assert sum(map(pages, plans)) < 150
