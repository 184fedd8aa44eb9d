"""What the shop itself promises, measured: ``python -m bench.own [MEASURE [OPTIONS]] …``.

Without a measure all are taken, one after the other. Each starts a shop of its own, prints its figures beside their
targets, and writes them to bench/results/own-MEASURE-*.json. Everything that is started has ended when it ends.

Exits 1 if something is wrong that no figure excuses: an order lost or oversold, an audit that is not clean. A target
that is missed is no error. Exits 2 if a server is missing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click
from sqlalchemy.exc import OperationalError

from app.settings import ROOT
from bench.machine import load_before, machine, packages, servers
from bench.own import hot_row, idle, memory, million, overload, post, sweep
from bench.own.filled import Filled
from bench.own.measured import Measured, write
from bench.own.stack import STACKS
from bench.own.turn import Turn
from bench.scale_report import stop_on_signals
from bench.scaling.shop import RequestError
from bench.scaling.stack import NotUsable
from tests.testkit.private_servers import MissingServer

RESULTS = ROOT / "bench" / "results"
PACKAGES = ("celery", "kombu", "sqlalchemy", "psycopg2-binary", "gunicorn", "waitress", "flask")
A_MILLION = 1_000_000

orders = click.option("--orders", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Of a turn.")
warm_up = click.option("--warm-up", type=click.IntRange(0, 10_000), default=100, show_default=True)
rounds = click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
in_flight = click.option(
    "--in-flight", type=click.IntRange(1, 1000), default=50, show_default=True, help="Unfinished orders."
)
finished = click.option("--finished", type=click.IntRange(100), default=A_MILLION, show_default=True)
patience = click.option("--patience", type=click.FloatRange(1), default=300, show_default=True, help="Seconds.")


@dataclass
class Taken:
    """What was taken in this run, and what is shared by its measures."""

    results: Path
    where: dict[str, Any]
    filled: Filled = field(default_factory=Filled)
    measures: list[Measured] = field(default_factory=list)

    def take(self, measure: Callable[[], Measured]) -> None:
        """Take a measure, print it and write it; ends the process when that cannot be done."""
        try:
            measured = measure()
        except (NotUsable, MissingServer) as error:
            _give_up(2, error)
        except (RequestError, TimeoutError, memory.NotCounted) as error:
            _give_up(1, error)
        except KeyboardInterrupt:
            sys.exit(130)
        self.measures.append(measured)
        for line in ["", *measured.table()]:
            click.echo(line)
        click.echo(f"written to {write(self.results, measured, self.where)}")


@click.group(chain=True, invoke_without_command=True, help=__doc__.partition("\n\n")[0])
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.pass_context
def main(context: click.Context, results: Path) -> None:
    """Take the measures that are named, or all."""
    stop_on_signals()
    load = load_before()
    try:
        versions = {**servers(), **packages(PACKAGES)}
    except OperationalError as error:
        _give_up(2, f"PostgreSQL does not answer, set TEST_DATABASE_URL: {error.orig}")
    context.obj = Taken(results, {"machine": machine(load), "versions": versions})
    context.call_on_close(context.obj.filled.close)
    if context.invoked_subcommand is None:
        for command in main.commands.values():
            context.invoke(command)


@main.result_callback()
@click.pass_obj
def _exit(taken: Taken, /, *_: object, **__: object) -> None:
    sys.exit(1 if any(measured.wrong for measured in taken.measures) else 0)


@main.command("idle", help=idle.__doc__)
@click.option("--orders", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Of each pattern.")
@click.option("--pause", type=click.FloatRange(0), default=0.3, show_default=True, help="Seconds between orders.")
@click.option("--stack", type=click.Choice([*STACKS, "both"]), default="both", show_default=True)
@click.pass_obj
def _idle(taken: Taken, /, orders: int, pause: float, stack: str) -> None:
    taken.take(lambda: idle.measure(idle.Plan(orders, pause, list(STACKS) if stack == "both" else [stack])))


@main.command("post", help=post.__doc__)
@click.option("--posts", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="In all.")
@click.option("--at-once", type=click.IntRange(1, 500), default=50, show_default=True)
@patience
@click.pass_obj
def _post(taken: Taken, /, posts: int, at_once: int, patience: float) -> None:
    taken.take(lambda: post.measure(post.Plan(posts, at_once, patience)))


@main.command("hot-row", help=hot_row.__doc__)
@rounds
@orders
@warm_up
@in_flight
@click.option("--stock", type=click.IntRange(0, 100_000), default=300, show_default=True, help="Of what sells out.")
@patience
@click.pass_obj
def _hot_row(taken: Taken, /, rounds: int, stock: int, **turn: Any) -> None:
    taken.take(lambda: hot_row.measure(hot_row.Plan(rounds, Turn(**turn), stock)))


@main.command("sweep", help=sweep.__doc__)
@finished
@click.option("--sweeps", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.pass_obj
def _sweep(taken: Taken, /, finished: int, sweeps: int) -> None:
    taken.take(lambda: sweep.measure(sweep.Plan(finished, sweeps), taken.filled))


@main.command("million", help=million.__doc__)
@finished
@rounds
@orders
@warm_up
@in_flight
@patience
@click.pass_obj
def _million(taken: Taken, /, finished: int, rounds: int, **turn: Any) -> None:
    taken.take(lambda: million.measure(million.Plan(finished, rounds, Turn(**turn)), taken.filled))


@main.command("memory", help=memory.__doc__)
@click.option("--tasks", type=click.IntRange(10), default=50_000, show_default=True, help="Of the busiest worker.")
@in_flight
@patience
@click.pass_obj
def _memory(taken: Taken, /, **plan: Any) -> None:
    taken.take(lambda: memory.measure(memory.Plan(**plan)))


@main.command("overload", help=overload.__doc__)
@click.option("--stack", type=click.Choice([*overload.STACKS, "all"]), default="all", show_default=True)
@click.option("--factor", "factors", type=click.FloatRange(0.1, 100), multiple=True, default=(2.0, 5.0, 10.0))
@click.option("--seconds", type=click.FloatRange(1, 600), default=10, show_default=True, help="Of each factor.")
@click.option("--at-once", type=click.IntRange(1, 500), default=50, show_default=True)
@patience
@click.pass_obj
def _overload(taken: Taken, /, stack: str, **plan: Any) -> None:
    stacks = overload.STACKS if stack == "all" else (stack,)
    taken.take(lambda: overload.measure(overload.Plan(stacks, **plan)))


def _give_up(status: int, error: object) -> NoReturn:
    click.echo(error, err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
