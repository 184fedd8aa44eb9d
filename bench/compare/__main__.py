"""The order saga on this project's engine, on others, and on nothing at all: ``make bench``.

Every contestant runs the same four transactions, with the same number of worker processes and of unfinished sagas, on
the same PostgreSQL. They take turns, several rounds of them; after each turn the tables must add up. Ratios of one run
may be compared, and nothing else. Everything that is started has ended when it ends.

Exits 1 if a contestant that is installed could not be measured, or its tables did not add up; 2 if a server is missing.
"""

import sys
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import OperationalError

from app.settings import ROOT
from bench.compare import plot, report
from bench.compare.contestants import with_celery, with_lines, with_restate
from bench.compare.contestants.contestant import Contestant
from bench.compare.rounds import Plan, Rounds, Row
from bench.compare.work import Outcome
from bench.machine import load_before, said_by, servers
from bench.scale_report import stop_on_signals
from tests.testkit.private_servers import MissingServer, folder_for_servers

RESULTS = ROOT / "bench" / "results"


def contestants() -> list[Contestant]:
    """Return all, in the order in which they take turns."""
    engine, one, both = with_celery.engine, (Outcome.COMPLETED,), with_celery.BOTH
    return [
        with_lines.floor(),
        with_celery.chain("rabbitmq"),
        with_celery.chain("redis"),
        with_celery.default_chain(),
        engine("orchestrated", "rabbitmq", events=False, outcomes=both),
        engine("orchestrated", "rabbitmq", events=True, outcomes=one),
        with_restate.restate(),
        engine("choreographed", "rabbitmq", events=False, outcomes=both),
        engine("choreographed", "rabbitmq", events=True, outcomes=one),
        with_lines.dbos("queue"),
        with_lines.dbos("direct"),
        engine("orchestrated", "redis", events=False, outcomes=one),
        engine("orchestrated", "redis", events=True, outcomes=one),
        with_celery.celery_saga(),
        engine("choreographed", "redis", events=False, outcomes=one),
        engine("choreographed", "redis", events=True, outcomes=one),
    ]


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--only", multiple=True, help="Part of a contestant's name; may be given several times.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--sagas", type=click.IntRange(1, 100_000), default=300, show_default=True, help="Of each turn.")
@click.option("--in-flight", type=click.IntRange(1, 1000), default=100, show_default=True, help="Unfinished sagas.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
def main(only: tuple[str, ...], rounds: int, sagas: int, in_flight: int, results: Path) -> None:
    """Measure, print, and write what was measured."""
    stop_on_signals()
    load = load_before()
    chosen = [one for one in contestants() if not only or any(part in one.name for part in only)]
    if not chosen:
        raise click.UsageError(f"nobody is called so; there are: {', '.join(one.name for one in contestants())}")
    plan = Plan(rounds=rounds, sagas=sagas, warm_up=min(sagas, 50), in_flight=in_flight, processes=2)
    try:
        with folder_for_servers() as folder, Rounds(plan, folder, click.echo) as running:
            rows = running.run(chosen)
        what = report.content(plan, rows, _servers(), load)
    except MissingServer as missing:
        click.echo(missing, err=True)
        sys.exit(2)
    except OperationalError as error:
        click.echo(f"PostgreSQL does not answer, set TEST_DATABASE_URL: {error.orig}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    _tell(rows, what, results)
    sys.exit(1 if any(row.trouble and not row.trouble.startswith("not installed") for row in rows) else 0)


def _tell(rows: list[Row], what: dict[str, Any], results: Path) -> None:
    for line in ["", *report.table(rows), "", *report.target_table(report.medians(rows)), ""]:
        click.echo(line)
    written = report.write(results, what)
    click.echo(f"written to {written}")
    drawn = plot.draw(what, written.with_suffix(".svg"))
    click.echo(f"drawn in {drawn}" if drawn else "not drawn: matplotlib is not installed")


def _servers() -> dict[str, str]:
    return {**servers(), "restate-server": said_by(str(with_restate.SERVER), "--version")}


if __name__ == "__main__":
    main()
