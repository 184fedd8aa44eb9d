"""What starts sagas, the same for every contestant: ``python -m bench.compare.drive MODULE --sagas N``.

The module names how one saga is started and how many have ended. Never more than ``in_flight`` are unfinished. Prints
what was measured as one line of JSON.
"""

import importlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import click

from bench.compare.place import Place
from bench.compare.work import Order, order
from bench.flight import Driver, Flight

OpenDriver = Callable[[Place], AbstractContextManager[Driver[Order]]]


@click.command(help=__doc__.partition("\n\n")[0])
@click.argument("module")
@click.option("--sagas", type=click.IntRange(1), required=True)
@click.option("--warm-up", type=click.IntRange(0), default=0, help="Sagas that are run before and not counted.")
@click.option("--tag", required=True, help="What the orders' ids begin with.")
@click.option("--fails", is_flag=True, help="Whether the carrier says no.")
@click.option("--patience", type=float, default=60, show_default=True)
def main(module: str, sagas: int, warm_up: int, tag: str, fails: bool, patience: float) -> None:
    """Measure and print."""
    open_driver: OpenDriver = importlib.import_module(module).open_driver
    place = Place.here()
    orders = [order(tag, number, fails=fails) for number in range(warm_up + sagas)]
    with open_driver(place) as driver:
        flight = Flight(driver, place.in_flight, patience)
        if warm_up:
            flight.run(orders[:warm_up])
        click.echo(json.dumps({"seconds": flight.run(orders[warm_up:])}))


if __name__ == "__main__":
    main()
