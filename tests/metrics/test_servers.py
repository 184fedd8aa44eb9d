"""On real servers, with pools of processes that are killed and started anew: what is exported is what happened.

And what Prometheus, the alerts and the dashboard make of it. Everything but payments counts in one folder, as under
``make servers``, and its web tells all of it; payments is a target of its own, as in a container.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.documents.dashboard import PANELS, expressions, metrics_in
from tests.metrics.scrapes import Counts, Samples, Watched, fetch, of, parse, truth
from tests.testkit import prometheus as own_prometheus
from tests.testkit.processes import (
    children,
    free_port,
    kill_group,
    listens,
    process_environment,
    role_commands,
    spawn,
    wait_for,
)
from tests.testkit.prometheus import Prometheus, promtool
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"simulate": {"payments": "fail:1"}},
    {"simulate": {"shipping": "decline", "payments": "undo-fail:1"}},
    {"simulate": {"payments": "decline"}},
    {"saga_type": "order-payment-first"},
    {"saga_type": "order-choreography"},
    {"saga_type": "order-choreography", "simulate": {"shipping": "decline"}},
)


pytestmark = pytest.mark.timeout(600)  # the first test waits for all of the run

OTHERS = ",".join(queue for queue in QUEUES if queue != "payments")


@dataclass
class Run:
    """What was seen of a run in which payments was killed."""

    shop: Shop
    port: int
    """Where the worker of payments tells its metrics."""
    prometheus: Prometheus
    counted: Counts
    happened: Counts
    while_away: Samples
    """What the web told while nobody took messages of payments."""
    exported: set[str]
    """The name of every sample that anything here exports."""
    folders: int
    """How many folders with counts there are of payments, whose first worker left one behind."""


@pytest.fixture(scope="module")
def run(seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    shared = {"prometheus_multiproc_dir": folder / "counts", "step_timeout_seconds": 120, "order_timeout_seconds": 120}
    with ExitStack() as stack:
        opened = open_shop("postgresql+rabbitmq", seeded_database, folder, queues=[OTHERS], web_workers=2, **shared)
        shop = stack.enter_context(opened)
        own: dict[str, Any] = {
            "metrics_port": free_port(),
            "metrics_host": "127.0.0.1",
            "prometheus_multiproc_dir": None,
        }
        settings = shop.here.settings.but(**own)
        ports = {"web": settings.port, "payments": own["metrics_port"]}
        prometheus = stack.enter_context(own_prometheus.running(folder, ports))
        watched = [Watched(lambda port=port: fetch(port)) for port in ports.values()]  # type: ignore[misc]
        book = shop.add_book(stock=500)

        def start_payments() -> "subprocess.Popen[bytes]":
            """Start the worker of payments: a target of its own, in a process group that can be killed."""
            command = role_commands(settings, queues=["payments"])["payments"]
            environment = process_environment(settings) | {"TMPDIR": str(folder)}
            process = spawn(command, environment, folder / "payments.log")
            stack.callback(kill_group, process)
            wait_for("payments to tell its metrics", lambda: listens(ports["payments"]))
            return process

        def place() -> list[str]:
            return [shop.order(book, **kind)["saga_id"] for kind in KINDS]

        def settle(placed: list[str]) -> None:
            for saga_id in placed:
                shop.settle(saga_id)
            # a count follows the commit that made it true
            shop.wait_for(lambda: (counted(), truth(shop)), lambda both: both[0] == both[1])

        def counted() -> Counts:
            return sum((target.look() for target in watched), Counts())

        worker = start_payments()
        settle(place())
        for child in children(worker.pid):  # which the worker replaces
            os.kill(child, signal.SIGKILL)
        settle(place())
        kill_group(worker)  # at once with its pool, as a container is
        waiting = place()
        while_away = shop.wait_for(lambda: parse(fetch(ports["web"])), all_wait_for_payments)
        start_payments()
        restarted_at = time.monotonic()
        settle(waiting)
        shop.wait_for(lambda: settled_targets(prometheus, restarted_at), lambda up: up)
        # of what happened before its first scrape Prometheus saw no increase
        settle(place())
        exported = {name for port in ports.values() for name, _ in parse(fetch(port))}
        folders = len(list(folder.glob("cloudmart-metrics-*")))
        yield Run(shop, ports["payments"], prometheus, counted(), truth(shop), while_away, exported, folders)


def all_wait_for_payments(told: Samples) -> bool:
    waiting = of(told, "queue_depth", queue="payments"), of(told, "saga_unfinished", status="running")
    return waiting[0] >= len(KINDS) == waiting[1]


def settled_targets(prometheus: Prometheus, restarted_at: float) -> bool:
    """Return whether Prometheus has seen both targets, the restarted one more than once."""
    since = max(1, int(time.monotonic() - restarted_at))
    counted = prometheus.query(f"count_over_time(step_completed_total{{job='payments'}}[{since}s]) >= 2")
    return set(prometheus.targets().values()) == {"up"} and bool(counted)


def test_increases_over_all_targets_and_restarts_are_what_the_database_says(run: Run) -> None:
    assert run.counted == run.happened
    for metric in ("saga_compensated_total", "step_retried_total", "step_failed_total"):
        assert {saga_type for name, saga_type, *_ in run.counted if name == metric}, metric
    assert run.counted["saga_started_total", "order"] == 4 * 4
    assert run.shop.violations() == []


def test_the_restarted_worker_counts_anew_and_leaves_nothing_of_the_killed_one(run: Run) -> None:
    charge = {"step": "process_payment", "operation": "action", "type": "order"}
    samples = parse(fetch(run.port))
    since = of(samples, "step_completed_total", **charge)

    assert 0 < since < run.happened["step_completed_total", "order", "process_payment", "action"]
    assert run.folders == 1
    # what waited for the worker was timed: it does not start within a second
    assert of(samples, "queue_wait_seconds_count", queue="payments") >= len(KINDS)
    assert of(samples, "queue_wait_seconds_sum", queue="payments") > 1
    for port in (run.port, run.shop.here.settings.port):
        promtool("check", "metrics", stdin=fetch(port))


def test_while_nobody_takes_messages_the_web_tells_of_them_and_of_the_sagas_that_wait(run: Run) -> None:
    away = run.while_away

    assert of(away, "queue_depth", queue="payments") >= len(KINDS)  # what the sweep sends again comes on top
    assert of(away, "saga_unfinished") == of(away, "saga_unfinished", status="running") == len(KINDS)
    assert of(away, "saga_oldest_unfinished_seconds", type="order", status="running") > 0
    assert of(away, "database_up") == of(away, "broker_up") == 1


def test_every_panels_queries_yield_data_of_our_metrics(run: Run) -> None:
    def missing() -> list[str]:
        def has_data(expression: str) -> bool:
            found = run.prometheus.query(expression.replace("$__rate_interval", "15m"))
            return any(series["value"][1] != "NaN" for series in found)

        return [expression for panel in PANELS for expression in expressions(panel) if not has_data(expression)]

    # a target that was late once has no data until it is scraped again
    run.shop.wait_for(missing, lambda expressions: not expressions)
    shown = {name for panel in PANELS for expression in expressions(panel) for name in metrics_in(expression)}
    parts = {name.removesuffix("_sum").removesuffix("_count").removesuffix("_bucket") for name in run.exported}
    assert shown <= run.exported | {"up"}
    assert {name.removesuffix("_bucket") for name in shown} - {"up"} == parts  # every metric that there is


def test_prometheus_takes_every_alert_and_none_fires_for_what_is_well(run: Run) -> None:
    rules = run.shop.wait_for(run.prometheus.rules, lambda rules: all(rule["health"] == "ok" for rule in rules))

    assert len(rules) >= 10
    for rule in rules:
        assert metrics_in(rule["query"]) <= run.exported | {"up"}, rule["name"]
    well = {"SagaStuck", "SagaDoesNotMove", "CompensationDoesNotRun", "TargetDown", "BrokerDown", "DatabaseDown"}
    watched = [rule for rule in rules if rule["name"] in well]
    assert len(watched) == len(well)
    # a target that was late once is down until it is scraped again
    run.shop.wait_for(
        lambda: [rule["name"] for rule in watched if run.prometheus.query(rule["query"])], lambda it: not it
    )
    absent = next(rule["query"] for rule in rules if rule["name"] == "ServiceAbsent")
    run.shop.wait_for(
        lambda: {series["metric"]["job"] for series in run.prometheus.query(absent)},
        lambda jobs: jobs == set(QUEUES) - {"payments"},  # no targets here
    )
