"""What the rounds know of a contestant."""

import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from bench.compare.place import Place
from bench.compare.work import Outcome
from tests.testkit.processes import end, kill_group, spawn, wait_for

START_SECONDS = 60
END_SECONDS = 20


class Processes:
    """The processes that a contestant started. All are sent SIGTERM in the end; one that does not listen is killed."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str], **variables: str) -> None:
        """Start a process; what it prints goes to a log of that name."""
        environment = {**self.place.environment(), **variables}
        self._running.append(spawn(command, environment, self.place.path / f"{name}.log"))

    def wait_until_ready(self, workers: int) -> None:
        """Wait until so many workers have said that they are ready. Raises RuntimeError if a process has ended."""

        def ready() -> bool:
            for process in self._running:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
            return self.place.ready() >= workers

        wait_for(f"{workers} workers to be ready", ready, START_SECONDS)

    def end(self) -> None:
        """End all, the last one first."""
        for process in reversed(self._running):
            if process.poll() is None:
                try:
                    end(process, signal.SIGTERM, END_SECONDS)
                except subprocess.TimeoutExpired:
                    continue  # it has been killed
            kill_group(process)  # its children
        self._running.clear()


@dataclass(frozen=True)
class Contestant:
    """One way of running the saga. ``launch`` returns once its workers take work."""

    name: str
    driver: str
    """The module that starts its sagas: see ``bench.compare.drive``."""
    launch: Callable[[Processes], None]
    settings: Mapping[str, str]
    """What a reader of the figures has to know of it."""
    database: str = "plain"
    """Whose tables its database has besides those of the work."""
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot take part on this machine, if so."""
    driver_variables: Callable[[Place], Mapping[str, str]] = lambda _: {}
    """What its driver finds in its environment besides the place."""
    outcomes: tuple[Outcome, ...] = (Outcome.COMPLETED,)
    checked: bool = True
    """Whether it does the work; an empty chain does not."""


def packages(*names: str) -> Callable[[], str | None]:
    """Return what looks for Python packages: see ``Contestant.missing``."""

    def look() -> str | None:
        absent = [name for name in names if find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    return look
