"""``python -m tests.chaos``: kill everything, all the time, and see that every order still ends right.

Orders arrive at a steady pace, in every kind of saga, half of them with a fault, while processes are killed and servers
taken down at random moments. Then everything is left alone until each order is settled, and the audit must be clean.
Exits 1 naming each violation, 2 if a server's program is missing.

The seed fixes what is ordered and when, and what is struck, when, how, and for how long. It cannot fix what meets what:
real processes race, so a run with the same seed is a run of the same kind, not the same run.
"""

import argparse
import logging
import random
import signal
import sys

import click

from tests.chaos.outcome import Report
from tests.chaos.run import run
from tests.chaos.stack import STACKS, open_stack
from tests.testkit.private_servers import MissingServer, folder_for_servers


def main() -> int:
    """Run the chosen stacks one after the other; returns the exit code."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell has what it starts in the background ignore SIGINT
        signal.signal(ending, signal.default_int_handler)
    click.echo(f"seed {options.seed}")
    stacks = STACKS if options.stack == "all" else [options.stack]
    clean = [_reign(name, options) for name in stacks]
    return 0 if all(clean) else 1


def _reign(name: str, options: argparse.Namespace) -> bool:
    """Run one stack and print what came of it; returns whether nothing was violated. What was, keeps its logs."""
    report: Report | None = None
    with folder_for_servers(keep=lambda: options.keep or bool(report and report.violations)) as folder:
        with open_stack(name, folder) as stack:
            report = run(stack, options.seed, options.orders, options.kills)
        click.echo("\n".join(report.lines()))
        if options.keep or report.violations:
            click.echo(f"logs and database: {folder}")
    return not report.violations


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--stack", choices=("all", *STACKS), default="all")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="random, and printed, unless given"
    )
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20, help="kills of processes and restarts of servers together")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and database")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MissingServer as missing:
        click.echo(missing, err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
