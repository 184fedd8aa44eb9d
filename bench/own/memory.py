"""The workers' memory while they do very many tasks: how much it is in the end, and whether it still grows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from celery.app.control import Control

from bench.flight import Flight
from bench.own.customer import bodies, customers
from bench.own.measured import Figure, Measured
from bench.own.sagas import sagas_of
from bench.own.stack import complaints, open_servers
from bench.scaling.load import BOOKS
from bench.scaling.shop import Shop
from tests.testkit.processes import children
from workflows import QUEUES
from workflows.orders import Pattern

AT_MOST_MB = 110.0
FLAT = 1.05
"""How much larger a process may be in the end than after a fifth of the tasks, and still be called flat."""

ANSWER_SECONDS = 5.0
BLOCKS = 50
"""How many samples are taken, more or less."""
MIN_BLOCK = 10
"""How many orders there are at least from one sample to the next."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    tasks: int
    """Until the worker that has most to do has done so many."""
    in_flight: int
    patience: float
    """Seconds from one sample to the next."""


@dataclass(frozen=True)
class Sample:
    """One worker at one moment."""

    tasks: int
    """How many it has taken since it started; sweeps are not counted, for they come with time and not with orders."""
    megabytes: dict[int, float]
    """What each of its processes has in memory, by process id; the first is the one that was started."""


Samples = dict[str, Sample]
"""By queue."""


class NotCounted(Exception):
    """Raised when workers do not say how many tasks they have done."""


def measure(plan: Plan) -> Measured:
    """Load the shop with orders in both patterns, some of which are undone, and look at its workers in between."""
    measured = Measured("memory", details={"tasks": plan.tasks, "in_flight": plan.in_flight})
    with open_servers() as stack, sagas_of(stack.database_url) as sagas, customers(stack.url, sagas) as them:
        measured.details["stack"] = stack.describe()
        shop = Shop(stack.url, stack.token)
        books = [shop.add_book(plan.tasks) for _ in range(BOOKS)]
        sold_out = shop.add_book(0)  # an odd number of books, so that each is ordered in both patterns
        orders = cycle(bodies([*books, sold_out], 2 * (BOOKS + 1), tuple(Pattern)))
        flight = Flight(them, plan.in_flight, plan.patience)
        samples = [look(stack.control)]
        while most(samples[-1]) < plan.tasks:
            block = max(MIN_BLOCK, plan.tasks // BLOCKS)
            flight.run(islice(orders, block))
            samples.append(look(stack.control))
            if total(samples[-1]) - total(samples[-2]) < block:
                raise NotCounted(f"{block} orders have ended, and the workers say that they did fewer tasks than that")
        measured.wrong += complaints(stack)
    _tell(measured, plan, samples, len(them.placed))
    return measured


def look(control: Control) -> Samples:
    """Ask every worker how many tasks it has done, and /proc for its memory; it is to be idle. Raises NotCounted."""
    answers = control.inspect(timeout=ANSWER_SECONDS, limit=len(QUEUES)).stats() or {}
    if len(answers) < len(QUEUES):
        raise NotCounted(f"only these workers answered in {ANSWER_SECONDS:.0f} s: {', '.join(answers) or 'none'}")
    return {
        name.rpartition("@")[0].rpartition("-")[0]: Sample(
            sum(count for task, count in said["total"].items() if task != "orchestrator.sweep"),
            resident([said["pid"], *children(said["pid"])]),
        )
        for name, said in sorted(answers.items())
    }


def resident(pids: Iterable[int]) -> dict[int, float]:
    """Return what these processes have in memory, in megabytes; one that has ended meanwhile is left out."""
    found = {}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except FileNotFoundError:
            continue
        kilobytes = next((line.split()[1] for line in lines if line.startswith("VmRSS:")), None)
        if kilobytes:  # what has just ended has none
            found[pid] = int(kilobytes) / 1024
    return found


def most(samples: Mapping[str, Sample]) -> int:
    """Return how many tasks the worker has done that has done most."""
    return max(sample.tasks for sample in samples.values())


def total(samples: Mapping[str, Sample]) -> int:
    """Return how many tasks all workers have done."""
    return sum(sample.tasks for sample in samples.values())


def growth(early: Samples, late: Samples) -> float:
    """Return how many times larger the process has become that has grown most, of those that were there before."""
    pairs = [
        (early[queue].megabytes[pid], size)
        for queue in late
        for pid, size in late[queue].megabytes.items()
        if pid in early[queue].megabytes
    ]
    return max((after / before for before, after in pairs), default=1.0)


def _tell(measured: Measured, plan: Plan, samples: list[Samples], orders: int) -> None:
    early = next(one for one in samples if most(one) >= plan.tasks / 5)
    late = samples[-1]
    largest = max(size for sample in late.values() for size in sample.megabytes.values())
    measured.figures += [
        Figure(f"RSS after {plan.tasks:,} tasks, the largest worker process", largest, "MB", at_most=AT_MOST_MB),
        Figure(f"the same ÷ after {plan.tasks // 5:,}, of what grew most", growth(early, late), at_most=FLAT),
        Figure("orders placed for that", orders),
    ]
    for queue, sample in late.items():
        sizes = [f"{size:.1f}{_before(early[queue], pid)}" for pid, size in sample.megabytes.items()]
        measured.notes.append(f"{queue}: {sample.tasks:,} tasks; MB by process, the parent first: {', '.join(sizes)}")
    measured.details["samples"] = [
        {queue: {"tasks": one.tasks, "megabytes": list(one.megabytes.values())} for queue, one in sample.items()}
        for sample in samples
    ]


def _before(early: Sample, pid: int) -> str:
    return f" (was {early.megabytes[pid]:.1f})" if pid in early.megabytes else " (new)"
