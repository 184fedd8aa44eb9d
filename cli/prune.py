"""``python -m app prune``: delete orders whose saga ended long ago, optionally archiving them first."""

import re
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import click

from app.errors import ArchiveError
from cli.environment import USAGE_ERROR, load_runtime
from workflows.operations import retention
from workflows.operations.archive import Archive

AGE = re.compile(r"([0-9]{1,6})([hdw])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
MAX_AGE = timedelta(days=36500)
REPORT_INTERVAL_SECONDS = 2
INTERRUPTED = 130


def _age(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    found = AGE.fullmatch(value)
    age = int(found[1]) * UNITS[found[2]] if found else None
    if age is None or not retention.MIN_AGE <= age <= MAX_AGE:
        raise click.BadParameter(f"{value!r} must be an age of 1h to 36500d, such as 90d, 12h or 8w")
    return age


@click.command()
@click.option("--older-than", required=True, metavar="AGE", callback=_age, help="90d, 12h or 8w; at least 1h.")
@click.option(
    "--archive", metavar="FILE", type=click.Path(path_type=Path), help="Add each order to FILE, as JSON lines, first."
)
@click.option(
    "--batch", default=retention.BATCH, show_default=True, type=click.IntRange(1, 1000), help="Orders at once."
)
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
def prune(older_than: timedelta, archive: Path | None, batch: int, dry_run: bool) -> None:
    """Delete the orders whose saga ended more than AGE ago, completed or compensated, with all that belongs to them.

    The shop may run meanwhile. Unfinished and stuck sagas stay, however old they are.
    """
    before = load_runtime().now() - older_than
    if dry_run:
        click.echo(f"{retention.count(before)} orders ended before {before:%Y-%m-%d %H:%M} UTC, and would go.")
        return
    try:
        opened = Archive(archive) if archive else None
    except ArchiveError as error:
        click.echo(f"Nothing was deleted: {error}.", err=True)
        sys.exit(USAGE_ERROR)
    with opened or nullcontext():
        _run(retention.prune(before, archive=opened, batch=batch))


def _run(batches: Iterable[retention.Batch]) -> None:
    done, reported_at = retention.Batch(0, 0), time.monotonic()
    number = 0
    try:
        for number, deleted in enumerate(batches, start=1):
            done = retention.Batch(done.sagas + deleted.sagas, done.rows + deleted.rows)
            if time.monotonic() - reported_at >= REPORT_INTERVAL_SECONDS:
                reported_at = time.monotonic()
                _report(done, number, "so far")
    except KeyboardInterrupt:
        _report(done, number, "then stopped; the same command goes on from here")
        sys.exit(INTERRUPTED)
    except OSError as error:
        _report(done, number, "then stopped")
        click.echo(
            f"The archive could not be written: {error.strerror}. What it does not have is still here.", err=True
        )
        sys.exit(1)
    _report(done, number, "and that was all")


def _report(done: retention.Batch, batches: int, ending: str) -> None:
    click.echo(f"{done.sagas} orders ({done.rows} rows) deleted in {batches} batches, {ending}.")
