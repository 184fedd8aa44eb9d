"""Compare options of the workers: ``python -m bench.workers --replicas 2 -- "-c 2" "-c 8" "-c 2 -E"``.

Starts a shop of its own like ``bench.scale_report``, and places orders in turns, each time with all workers started
anew with other options of ``celery worker``. The first set of options is what the others are compared with. Everything
has ended when it ends.
"""

import statistics
import sys

import click

from bench.scale_report import WARM_UP, stop_on_signals
from bench.scaling.figures import measure
from bench.scaling.load import Load
from bench.scaling.processes import BROKERS, open_processes
from bench.scaling.shop import RequestError, Shop
from bench.scaling.stack import CALL_OUTSIDE, NotUsable

PATIENCE_SECONDS = 300


@click.command(help=__doc__.partition("\n\n")[0])
@click.argument("variants", nargs=-1, required=True)
@click.option("--orders", type=click.IntRange(2, 100_000), default=80, show_default=True, help="Of each round.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 1000), default=32, show_default=True)
@click.option("--latency", type=click.FloatRange(0, 60), default=0.5, show_default=True)
@click.option(
    "--replicas", type=click.IntRange(1, 16), default=1, show_default=True, help="Of those that call outside."
)
@click.option("--broker", type=click.Choice(list(BROKERS)), default="rabbitmq", show_default=True)
def main(
    variants: tuple[str, ...], orders: int, rounds: int, in_flight: int, latency: float, replicas: int, broker: str
) -> None:
    """Measure and print."""
    stopping = stop_on_signals()
    took: dict[str, list[float]] = {variant: [] for variant in variants}
    try:
        with open_processes(broker, latency, variants[0].split()) as stack:
            shop = Shop(stack.url, stack.token)
            load = Load(shop, rounds * len(variants) * (orders + WARM_UP), PATIENCE_SECONDS, _silent, stopping)
            for service in CALL_OUTSIDE:
                stack.scale(service, replicas)
            for _ in range(rounds):
                for variant in variants:
                    stack.restart_workers(variant.split())
                    load.run(WARM_UP, in_flight)
                    figures = measure(shop, "payments", replicas, load.run(orders, in_flight))
                    took[variant].append(figures.settled_per_second)
                    click.echo(
                        f"{variant:<40}{figures.settled_per_second:>8.2f} orders/s, median "
                        f"{figures.median_seconds:.2f} s, p95 {figures.p95_seconds:.2f} s"
                    )
            clean, said = stack.audit()
    except NotUsable as error:
        click.echo(error, err=True)
        sys.exit(2)
    except (RequestError, TimeoutError) as error:
        click.echo(error, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    first = statistics.median(took[variants[0]])
    for variant, rates in took.items():
        click.echo(f"{variant:<40}{statistics.median(rates) / first:>8.2f} times the first, median of {rounds} rounds")
    click.echo("audit: clean" if clean else f"audit: NOT clean\n{said}")
    sys.exit(0 if clean else 1)


def _silent(_progress: str) -> None:
    """Say nothing: a round is short."""


if __name__ == "__main__":
    main()
