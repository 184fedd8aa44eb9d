"""Start the shop often, send it one signal or two at random moments, and print every run that does not end as it must.

A process of its own, because it forks: what the shop imports is imported once, and each run is a child with a process
group of its own. ``python -m tests.testkit.stop_twice SEEDED_DATABASE FOLDER RUNS SEED``.
"""

import faulthandler
import gc
import math
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cli import serve  # noqa: F401  (imported before the forks, for their speed)
from cli.main import main
from tests.testkit.processes import free_port

AT_ONCE = 4
ENDS_WITHIN_SECONDS = 120
OPEN = "CloudMart is open"


@dataclass
class Run:
    """One shop, and the one or two signals that it gets."""

    pid: int
    log: Path
    signals: list[signal.Signals]
    wait: float
    """The first signal is sent so many seconds after the shop has opened; if negative, it is not waited for."""
    gap: float
    """How many seconds later the second one is sent, if there is one."""
    forked_at: float = field(default_factory=time.monotonic)
    due_at: float | None = None
    status: int | None = None

    def step(self) -> bool:
        """Send what is due; return whether the run is over."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = status
            return True
        now = time.monotonic()
        if self.due_at is None and (self.wait < 0 or OPEN in self.log.read_text()):
            self.due_at = now + abs(self.wait)
        if self.due_at is not None and now >= self.due_at:
            self.send()
            self.due_at = math.inf
        if now < self.forked_at + ENDS_WITHIN_SECONDS:
            return False
        os.kill(self.pid, signal.SIGABRT)  # faulthandler writes where each thread hangs, and ends the process
        os.waitpid(self.pid, 0)
        return True

    def send(self) -> None:
        """Send the signals to the group; sleeping would be too coarse for the gap between them."""
        at = time.perf_counter()
        for number in self.signals:
            while time.perf_counter() < at:
                pass
            os.killpg(self.pid, number)
            at = time.perf_counter() + self.gap

    def failure(self) -> str | None:
        """Return what is wrong with how the run ended, if anything is."""
        if self.status is None:
            return "did not end"
        code = os.waitstatus_to_exitcode(self.status)
        expected = {0, *(-number for number in self.signals[1:])}
        if self.wait < 0:  # it may not have handled signals yet: 1 is what click makes of Ctrl-C
            expected = {0, 1, -signal.SIGINT, -signal.SIGTERM}
        return None if code in expected else f"ended with {code}"


def start(number: int, seeded: Path, folder: Path, rng: random.Random) -> Run:
    """Fork a shop with a database and a port of its own."""
    database, log, port = folder / f"{number}.db", folder / f"{number}.log", free_port()
    shutil.copy(seeded, database)
    signals = rng.choices([signal.SIGTERM, signal.SIGINT], k=1 if number % 5 == 0 else 2)
    wait = rng.uniform(0, 0.5) if rng.random() < 0.8 else -rng.uniform(0, 2)
    # mostly so that the second finds the handler of the first at work
    gap = rng.uniform(0, 0.0005) if rng.random() < 0.8 else rng.uniform(0, 0.1)
    log.touch()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        with log.open("wb") as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        faulthandler.enable(sys.stderr.fileno())
        os.environ.update(DATABASE_URL=f"sqlite:///{database}", BROKER_URL="memory://", PORT=str(port))
        sys.argv[1:] = ["run"]
        main()
        os._exit(0)
    os.setpgid(pid, pid)
    return Run(pid, log, signals, wait, gap)


def play(seeded: Path, folder: Path, runs: int, seed: int) -> int:
    """Play so many runs; return how many did not end as they must."""
    gc.freeze()  # what was imported is garbage in no child: there, a collection need not look at it
    rng = random.Random(seed)
    failed, running, started = 0, list[Run](), 0
    while running or started < runs:
        while started < runs and len(running) < AT_ONCE:
            running.append(start(started, seeded, folder, rng))
            started += 1
        for run in [run for run in running if run.step()]:
            running.remove(run)
            if failure := run.failure():
                failed += 1
                print(f"--- {run.log.name} {failure}, {run.signals}\n{run.log.read_text()}")
        time.sleep(0.001)
    print(f"{runs} runs with seed {seed}: {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if play(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])) else 0)
