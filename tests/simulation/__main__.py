"""``python -m tests.simulation``: random schedules for as long as one likes. Exits with 1 on the first find."""

import argparse
import sys
import time

from tests.simulation.crew import in_world, open_crew
from tests.simulation.many_faults import run
from tests.simulation.mutations import MUTATIONS

REPORT_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="how many schedules (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first; the next has the next number")
    parser.add_argument("--without", choices=MUTATIONS, help="a protection to take out of the engine, to see it missed")
    wanted = parser.parse_args()
    began = reported = time.monotonic()
    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    with open_crew(wanted.without) as crew:
        for number, find in enumerate(crew.map(in_world(run), seeds), start=1):
            if find:
                print(f"run {number} of {wanted.runs} ended wrongly\n{find}")
                return 1
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS or number == wanted.runs:
                print(
                    f"{number} of {wanted.runs} runs, {number / (now - began):.0f} a second, nothing found", flush=True
                )
                reported = now
    return 0


if __name__ == "__main__":
    sys.exit(main())
