"""What the comparison rests on: the work is checked, sagas in flight are bounded, and ratios are taken rightly."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from bench.compare import ledger
from bench.compare.contestants.contestant import Contestant
from bench.compare.report import medians, table, targets
from bench.compare.rounds import Row
from bench.compare.sagas.floor import run
from bench.compare.targets import ORCHESTRATED
from bench.compare.work import Order, Outcome, order
from bench.flight import Flight
from tests.testkit.servers import fresh_postgresql_database, require_postgresql

ORDERS = 5


@pytest.fixture
def database_url() -> Iterator[str]:
    require_postgresql()
    with fresh_postgresql_database() as url:
        plain = url.replace("+psycopg2", "")
        ledger.prepare(plain)
        ledger.empty(plain)
        yield plain


def work(database_url: str, *, fails: bool) -> None:
    with closing(psycopg2.connect(database_url)) as connection:
        for number in range(ORDERS):
            run(connection, order("test", number, fails=fails))


@pytest.mark.parametrize("outcome", Outcome)
def test_work_that_is_done_adds_up(database_url: str, outcome: Outcome) -> None:
    work(database_url, fails=outcome is Outcome.UNDONE)

    assert ledger.violations(database_url, ORDERS, outcome) == []
    assert ledger.violations(database_url, ORDERS + 1, outcome)

    ledger.empty(database_url)
    assert ledger.violations(database_url, ORDERS, outcome)


DAMAGE = (
    "DELETE FROM bench_payments WHERE order_id = 'test-000001'",
    "DELETE FROM bench_shipments WHERE order_id = 'test-000001'",
    "UPDATE bench_reservations SET status = 'released' WHERE order_id = 'test-000001'",
    "UPDATE bench_stock SET available = available - 1 WHERE book_id = 1",
    "UPDATE bench_stock SET available = available + 1, reserved = reserved - 1 WHERE book_id = 1",
    "UPDATE bench_orders SET status = 'pending' WHERE id = 'test-000001'",
)


def test_work_that_is_not_done_is_found(database_url: str) -> None:
    for damage in DAMAGE:
        ledger.empty(database_url)
        work(database_url, fails=False)
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(damage)
        assert ledger.violations(database_url, ORDERS, Outcome.COMPLETED), damage


class SlowDriver:
    """Ends one saga at each look; notes how many were ever on their way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begun = self.done = self.most = 0

    def start(self, _order: Order) -> None:
        with self._lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.done)

    def ended(self) -> int:
        with self._lock:
            self.done += self.done < self.begun
            return self.done


def test_sagas_in_flight_are_bounded() -> None:
    driver = SlowDriver()

    Flight(driver, limit=3, patience=30).run([order("test", number, fails=False) for number in range(12)])

    assert (driver.begun, driver.done) == (12, 12)
    assert driver.most <= 3


def row(name: str, *rates: float, trouble: str | None = None) -> Row:
    contestant = Contestant(name=name, driver="", launch=lambda _: None, settings={})
    return Row(contestant, Outcome.COMPLETED, list(rates), trouble)


def test_targets_take_medians_and_the_faster_of_two_peers() -> None:
    rows = [
        row(ORCHESTRATED, 300, 100, 310),
        row("DBOS", 90),
        row("DBOS, started in its workers", 120),
        row("Restate", trouble="not installed: restate"),
    ]

    by_name = {one["target"]: one for one in targets(medians(rows))}

    assert by_name["orchestrated ÷ DBOS"] | {"target": ""} == {
        "target": "",
        "at_least": 3.0,
        "measured": 2.5,
        "met": False,
    }
    assert by_name["orchestrated ÷ Restate"]["met"] is None
    assert any("not installed: restate" in line for line in table(rows))
