"""Where a contestant runs: what its workers and its driver, which are processes of their own, have to be told."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

VARIABLE = "BENCH_COMPARE"


@dataclass(frozen=True)
class Place:
    """Servers, a folder for what the processes leave behind, and how much may happen at the same time."""

    folder: str
    database_url: str
    rabbitmq_url: str
    redis_url: str
    state_url: str
    """A second Redis database, for a peer that keeps its state there."""
    processes: int
    """How many worker processes each contestant has."""
    in_flight: int
    """How many sagas may be unfinished at the same time."""

    @classmethod
    def here(cls) -> "Place":
        """Return the place that this process was started in."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that is started here."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1"}

    def but(self, **changes: Any) -> "Place":
        """Return a copy with some values changed."""
        return replace(self, **changes)

    @property
    def path(self) -> Path:
        """Return the folder."""
        return Path(self.folder)

    def say_ready(self) -> None:
        """Have this worker process counted as ready."""
        (self.path / f"ready-{os.getpid()}").touch()

    def ready(self) -> int:
        """Return how many worker processes are ready."""
        return len(list(self.path.glob("ready-*")))

    def forget(self) -> None:
        """Remove all but the logs."""
        for left in self.path.iterdir():
            if left.suffix != ".log" and not left.is_dir():
                left.unlink()


@contextmanager
def lines(place: Place, worker: int) -> Iterator[Iterator[str]]:
    """Yield the lines that a driver writes to this worker: the channel of those that have no broker of their own."""
    path = place.path / f"lines-{worker}"
    with suppress(FileExistsError):
        os.mkfifo(path)
    # for reading and writing, so that it does not end when a driver closes its end
    with os.fdopen(os.open(path, os.O_RDWR), "r") as channel:
        place.say_ready()
        yield iter(channel)


class LineWriter:
    """Gives each line to the next of the workers."""

    def __init__(self, place: Place) -> None:
        paths = [place.path / f"lines-{worker}" for worker in range(place.processes)]
        self._channels = [os.open(path, os.O_WRONLY) for path in paths]
        self._written = 0

    def write(self, line: str) -> None:
        """Write a line that is shorter than what a pipe takes in one piece."""
        self._written += 1
        os.write(self._channels[self._written % len(self._channels)], f"{line}\n".encode())

    def close(self) -> None:
        """Close all channels."""
        for channel in self._channels:
            os.close(channel)
