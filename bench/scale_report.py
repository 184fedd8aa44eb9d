"""Count up one service's replicas under load: ``make scale-report SERVICE=payments REPLICAS=1,2,4 ORDERS=120``.

Places orders through the API, never more than ``--in-flight`` of them unfinished, while the replicas of one service go
up, and prints what each number of replicas settled. In the end the audit must be clean. The payment provider and the
carrier take ``--latency`` seconds to answer, as real ones do: so one service is the bottleneck because it waits, and
replicas matter on however few processors. Whoever else calls outside has the most replicas from the beginning.

``--stack processes`` starts a shop of its own: a database on TEST_DATABASE_URL, a broker, every role as a process.
``--stack compose`` scales the Compose stack that is up, through its nginx; how late its gateways answer is the stack's
own setting (GATEWAY_LATENCY_SECONDS). Exits 1 if the audit is not clean or an order was lost, 2 if a server is missing.
"""

import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from app.settings import ROOT
from bench.scaling.compose import open_compose
from bench.scaling.figures import Figures, measure
from bench.scaling.load import Load
from bench.scaling.processes import BROKERS, open_processes
from bench.scaling.shop import RequestError, Shop
from bench.scaling.stack import CALL_OUTSIDE, SERVICES, NotUsable, Stack

RESULTS = ROOT / "bench" / "results"
MAX_REPLICAS = 32
WARM_UP = 4
"""Orders for each replica that are not counted: a process's first task opens its connections."""


class Counts(click.ParamType[list[int]]):
    """Numbers of replicas, as in 1,2,4."""

    name = "N,N,…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers."""
        try:
            counts = [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value} is no list of numbers like 1,2,4", param, ctx)
        if not all(1 <= count <= MAX_REPLICAS for count in counts):
            self.fail(f"replicas go from 1 to {MAX_REPLICAS}", param, ctx)
        return counts


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    service: str
    replicas: list[int]
    orders: int
    in_flight: int
    patience: float
    results: Path


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--stack", "way", type=click.Choice(["processes", "compose"]), default="processes", show_default=True)
@click.option("--service", type=click.Choice(SERVICES), default="payments", show_default=True)
@click.option("--replicas", type=Counts(), default="1,2,4", show_default=True)
@click.option("--orders", type=click.IntRange(2, 100_000), default=120, show_default=True, help="Of each measurement.")
@click.option("--in-flight", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--patience", type=click.FloatRange(1), default=300, show_default=True, help="Seconds per measurement.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--latency", type=click.FloatRange(0, 60), default=1, show_default=True, help="Of processes.")
@click.option("--broker", type=click.Choice(list(BROKERS)), default="rabbitmq", show_default=True, help="Of processes.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Of each process.")
def main(way: str, latency: float, broker: str, concurrency: int, **planned: Any) -> None:
    """Measure, print, and write what was measured as JSON."""
    stopping = stop_on_signals()
    try:
        with open_compose() if way == "compose" else open_processes(broker, latency, ["-c", str(concurrency)]) as stack:
            good = report(stack, Plan(**planned), stopping)
    except NotUsable as error:
        click.echo(error, err=True)
        sys.exit(2)
    except (RequestError, TimeoutError) as error:
        click.echo(f"\n{error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if good else 1)


def stop_on_signals() -> threading.Event:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt, and set what is returned, for Python may lose the exception."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()
        signal.default_int_handler(number, frame)

    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell has what it starts in the background ignore SIGINT
        signal.signal(ending, stop)
    return stopping


def report(stack: Stack, plan: Plan, stopping: threading.Event) -> bool:
    """Measure each number of replicas, print the table; returns whether nothing was lost and the audit is clean."""
    click.echo(f"{stack.name}: {', '.join(f'{name} {value}' for name, value in stack.describe().items())}")
    shop = Shop(stack.url, stack.token)
    load = Load(shop, (plan.orders + WARM_UP * MAX_REPLICAS) * len(plan.replicas), plan.patience, _tell, stopping)
    for other in set(CALL_OUTSIDE) - {plan.service}:
        stack.scale(other, max(plan.replicas))  # it waits as long: it must not be the bottleneck instead
    rows: list[Figures] = []
    click.echo(HEADER)
    for count in plan.replicas:
        stack.scale(plan.service, count)
        load.run(WARM_UP * count, plan.in_flight)
        rows.append(measure(shop, plan.service, count, load.run(plan.orders, plan.in_flight)))
        click.echo(line(rows[-1], rows[0]))
    clean, said = stack.audit()
    click.echo("audit: clean" if clean else f"audit: NOT clean\n{said}")
    click.echo(f"written to {write(plan.results, plan.service, stack, rows, clean)}")
    undone = sum(row.orders - row.completed for row in rows)
    if undone:
        click.echo(f"{undone} orders were not completed, and none was told to fail", err=True)
    return clean and not undone


HEADER = f"{'replicas':>8}{'orders/s':>10}{'ratio':>7}{'median s':>10}{'p95 s':>8}{'queue peak':>12}{'completed':>11}"


def line(row: Figures, first: Figures) -> str:
    """Return a row of the table."""
    ratio = row.settled_per_second / first.settled_per_second
    return (
        f"{row.replicas:>8}{row.settled_per_second:>10.2f}{ratio:>7.2f}{row.median_seconds:>10.2f}"
        f"{row.p95_seconds:>8.2f}{row.queue_peak:>12}{f'{row.completed}/{row.orders}':>11}"
    )


def write(folder: Path, service: str, stack: Stack, rows: Sequence[Figures], clean: bool) -> Path:
    """Write what was measured; returns the file."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"scale-{service}-{stack.name}-{now:%Y%m%dT%H%M%S}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "service": service,
        "stack": {"name": stack.name, **stack.describe()},
        "rows": [row.as_json() for row in rows],
        "audit_clean": clean,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _tell(progress: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r  {progress} settled \r", nl=False, err=True)


if __name__ == "__main__":
    main()
