"""Combine the metrics of many processes, living and dead, through files of a shared folder.

Every process takes the lowest *slot* of the folder that is free, and continues with the files of that slot where the
last process that held it ended. So no count is lost with a child that is killed or replaced, what a process family
exports never decreases, and there are never more files than processes that lived at once. (The client library itself
names files by process id, so their number grows with every process.)

A slot is held by a lock that the kernel releases when its process ends, however that ends.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder. The client library also reads it whenever it opens a file."""

_PREFIX = "cloudmart-metrics-"


def make_folder() -> Path:
    """Create a folder that is removed when this process, the first of its family, ends; if killed, by the next one.

    Its content is useless by then: the next family counts from 0, as Prometheus expects after a restart.
    """
    _remove_orphaned()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(partial(_remove, folder, os.getpid()))
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the exit handler
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphaned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)  # folders of other users stay


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Slots:
    """Returns the slot of the calling process; a forked child gets one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: int | None = None
        self._name = ""
        self._lock: IO[bytes] | None = None
        """Kept open: the lock is held as long as the file is open."""

    def __call__(self) -> str:
        """Return the slot's name, which is part of its files' names."""
        process = os.getpid()
        if self._process != process:
            self._name, self._lock = self._take()
            self._process = process
        return self._name

    def _take(self) -> tuple[str, IO[bytes]]:
        for number in count():
            lock = (self._folder / f"slot{number}.lock").open("ab")
            try:
                # a lock of the process, which a forked child does not inherit, unlike one by flock()
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX allows either if the lock is held
                lock.close()
            else:
                return f"slot{number}", lock
        raise AssertionError("unreachable: there is always another number")


class SlotCollector(Collector):
    """Collects the sums over all processes, living and dead, that have counted in a folder."""

    def __init__(self, folder: Path, registry: CollectorRegistry) -> None:
        self._folder = folder
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Return nothing, so that registration does not read the files."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sums over all slots."""
        # an empty file has just been opened and has no length to read yet
        files = [str(path) for path in sorted(self._folder.glob("*_slot*.db")) if path.stat().st_size]
        yield from MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]  # it has no types
