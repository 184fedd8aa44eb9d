"""The restore drill of docs/how-to/runbook.md: a database that went back in time beside gateways that did not."""

import math
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas.models import SagaInstance
from durable_sagas.outages import GAP_SECONDS, GRACE_SECONDS
from tests.documents.document import statements
from tests.testkit.messages import Clock, Post, run
from tests.testkit.servers import fresh_postgresql_database
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

GATEWAYS = ("payment_provider_ledger", "carrier_ledger")
OUTAGE_SECONDS = 3600
FORGOTTEN = "nothing belongs to an order that is not there"
"""The audit's check that finds what the simulated gateways did for an order that the database has forgotten."""


@pytest.fixture
def restored(settings: Settings) -> Iterator[Runtime]:
    """A runtime on another database, still empty."""
    with fresh_postgresql_database() as url, closing(Runtime(settings.but(database_url=url))) as other:
        yield other


def libpq(url: str) -> str:
    """Return a database's address as PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def dump(here: Runtime, file: Path, *options: str) -> None:
    url = libpq(here.settings.database_url)
    subprocess.run(["pg_dump", "--format=custom", f"--file={file}", *options, url], check=True)


def restore(file: Path, here: Runtime) -> None:
    url = libpq(here.settings.database_url)
    subprocess.run(["pg_restore", "--no-owner", f"--dbname={url}", str(file)], check=True)


def rows(here: Runtime, statement: str) -> list[tuple[object, ...]]:
    with here.database.reading() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def status_of(here: Runtime, placed: PlacedOrder) -> tuple[str, str | None]:
    with here.database.reading() as session:
        saga = session.get_one(SagaInstance, placed.saga_id)
        return str(saga.status), saga.current_step


def order(pattern: Pattern = Pattern.ORCHESTRATION) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), pattern))


def deliver(post: Post, placed: PlacedOrder, number: int) -> PlacedOrder:
    """Deliver so many of a saga's messages, in their order."""
    for _ in range(number):
        message = next(one for one in post.waiting if one.kwargs["saga_id"] == placed.saga_id)
        post.waiting.remove(message)
        run(message)
    return placed


def cancel(post: Post, placed: PlacedOrder) -> None:
    """Cancel an order; the messages that drove it forward are gone."""
    post.waiting = [one for one in post.waiting if one.kwargs["saga_id"] != placed.saga_id]
    sagas.cancel(placed.saga_id)


def settle(here: Runtime, post: Post, clock: Clock) -> None:
    """Run the shop until every saga has ended."""
    for _ in range(20):
        sagas.sweep()
        post.deliver_all()
        unfinished = rows(here, "SELECT id FROM saga_instances WHERE status NOT IN ('completed', 'compensated')")
        if not unfinished:
            return
        clock.forward(here.settings.stall_seconds)
    pytest.fail(f"unfinished: {unfinished}")


@dataclass(frozen=True)
class Drill:
    """What was lived before and after the dump, and a database that goes on from the dump."""

    here: Runtime
    lived: dict[str, str]
    """How each saga of the dump has ended meanwhile, by what it was doing at the dump."""
    sagas: dict[str, PlacedOrder]
    lost: list[PlacedOrder]
    """What was ordered after the dump."""

    def outcomes(self) -> dict[str, str]:
        return {name: status_of(self.here, placed)[0] for name, placed in self.sagas.items()}


@pytest.fixture
def drill(here: Runtime, restored: Runtime, post: Post, clock: Clock, tmp_path: Path) -> Drill:
    """Dump a shop with sagas at every kind of place, live on, and restore it beside gateways that forget nothing."""
    clock.forward(-OUTAGE_SECONDS)
    # each with the pattern, how many of its messages are delivered before the dump, and how it stands then
    doing = {
        "accepted": (Pattern.ORCHESTRATION, 0, ("pending", "create_order")),
        "charged": (Pattern.ORCHESTRATION, 3, ("running", "arrange_shipping")),
        "booked": (Pattern.ORCHESTRATION, 4, ("running", "ship_stock")),
        "joined": (Pattern.CHOREOGRAPHY, 2, ("running", None)),
        "being undone": (Pattern.ORCHESTRATION, 3, ("compensating", "reserve_stock")),
        "cancelled later": (Pattern.ORCHESTRATION, 0, ("pending", "create_order")),
        "cancelled later, charged": (Pattern.ORCHESTRATION, 3, ("running", "arrange_shipping")),
    }
    placed = {name: deliver(post, order(pattern), number) for name, (pattern, number, _) in doing.items()}
    cancel(post, placed["being undone"])
    deliver(post, placed["being undone"], 2)
    assert {name: status_of(here, one) for name, one in placed.items()} == {
        name: last for name, (*_, last) in doing.items()
    }
    sagas.sweep()
    dump(here, tmp_path / "dump")

    for name in ("cancelled later", "cancelled later, charged"):
        cancel(post, placed[name])
    settle(here, post, clock)
    lived = {name: status_of(here, one)[0] for name, one in placed.items()}
    lost = [order(), order(Pattern.CHOREOGRAPHY)]
    settle(here, post, clock)
    dump(here, tmp_path / "books", "--data-only", *(f"--table={name}" for name in GATEWAYS))

    restore(tmp_path / "dump", restored)
    with restored.database.transaction() as session:
        session.execute(text(f"TRUNCATE {', '.join(GATEWAYS)}"))
    restore(tmp_path / "books", restored)
    clock.time = datetime.now(UTC)
    restored.now = clock
    return Drill(runtime.use(restored), lived, placed, lost)


def test_what_was_in_flight_goes_on_as_it_did_before(drill: Drill, post: Post, clock: Clock) -> None:
    before = books(drill.here)
    with drill.here.database.transaction() as session:
        session.execute(text(block("UPDATE saga_instances")))

    settle(drill.here, post, clock)

    assert drill.outcomes() == {**drill.lived, "cancelled later": "completed"}
    wished = drill.sagas["cancelled later"].saga_id
    assert {row for row in books(drill.here) if wished not in str(row[0])} == before
    forgotten = {one.order_id for one in drill.lost}
    assert {(one.check, one.subject) for one in audit()} == {(FORGOTTEN, order_id) for order_id in forgotten}
    assert {row[1] for row in rows(drill.here, block("'provider' AS who"))} == forgotten


def test_without_time_to_go_on_the_sweep_undoes_what_the_outside_completed(
    drill: Drill, post: Post, clock: Clock
) -> None:
    sagas.sweep()  # after so long an interval without one it undoes nothing yet
    settings = drill.here.settings
    longest = max(settings.step_timeout_seconds, settings.order_timeout_seconds)
    for _ in range(math.ceil((GRACE_SECONDS + longest) / GAP_SECONDS)):  # but the workers need longer than a deadline
        clock.forward(GAP_SECONDS)
        sagas.sweep()
    settle(drill.here, post, clock)

    undone = dict.fromkeys(("accepted", "charged", "joined"), "compensated")
    assert drill.outcomes() == {**drill.lived, **undone}
    assert {(one.check, one.subject) for one in audit() if one.check != FORGOTTEN} == {
        ("cancelled orders are undone", drill.sagas["accepted"].order_id)
    }


def block(part: str) -> str:
    """Return the one statement of the runbook that has this in it."""
    (sql,) = [sql for sql in statements() if part in sql]
    return sql


def books(here: Runtime) -> set[tuple[object, ...]]:
    """Return what the gateways have written."""
    return {row for name in GATEWAYS for row in rows(here, f"SELECT * FROM {name}")}
