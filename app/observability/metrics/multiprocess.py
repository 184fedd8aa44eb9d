"""Which files a process counts in, so that the counts of many processes, living and dead, are one.

Every process that counts takes the lowest *slot* of a folder that nobody holds, and goes on with the files of that slot
where the last process that held it ended. So nothing that was counted is lost with a child that is killed or replaced,
what a process family exports never decreases, and there are never more files than processes have lived at once. (The
client library's own way is files named by process id, of which there is one more for each process that ever lived.)

A slot is held by a lock that the kernel releases when its process ends, however that ends.
"""

import fcntl
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector


class Slots:
    """Names the slot of the process that calls it; a forked child that calls it takes one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: int | None = None
        self._name = ""
        self._lock: IO[bytes] | None = None
        """Kept open: the lock is the process's for as long as the file is."""

    def __call__(self) -> str:
        """Return the slot's name, which is part of the names of its files."""
        process = os.getpid()
        if self._process != process:
            self._name, self._lock = self._take()
            self._process = process
        return self._name

    def _take(self) -> tuple[str, IO[bytes]]:
        for number in count():
            lock = (self._folder / f"slot{number}.lock").open("ab")
            try:
                # a lock of the process, which a forked child does not share: flock()'s would live on in it
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX allows either for "somebody holds it"
                lock.close()
            else:
                return f"slot{number}", lock
        raise AssertionError("unreachable: there is always another number")


class SlotCollector(Collector):
    """What all processes that count in a folder, and all that ever did, have counted together."""

    def __init__(self, folder: Path, registry: CollectorRegistry) -> None:
        self._folder = folder
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Name nothing, so that registering it reads nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sums over all slots."""
        # one that is empty has been opened this moment, and has no length to be read yet
        files = [str(path) for path in sorted(self._folder.glob("*_slot*.db")) if path.stat().st_size]
        yield from MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]  # it has no types
