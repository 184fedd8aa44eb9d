"""Several processes, each with a world of its own, because one order costs tens of milliseconds and there are many."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Self, TypeVar

import pytest

import workflows
from tests.simulation.mutations import MUTATIONS
from tests.simulation.store import template
from tests.simulation.world import World, open_world

Task = TypeVar("Task")
Result = TypeVar("Result")

_worlds: list[World] = []
_open = ExitStack()  # until the process ends


class Crew:
    """Processes that run pieces of a simulation. To be closed, or used as a context."""

    def __init__(self, without: str | None = None) -> None:
        """``without`` names a protection of the engine to be taken out; see ``mutations``."""
        # spawned: a fork would take the parent's connections and locks along
        self._pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _settle_in, (template(), without))

    def submit(self, do: Callable[[World, Task], Result], task: Task) -> Future[Result]:
        """Have a task done in some process's world, in its turn."""
        return self._pool.submit(_in_world, do, task)

    def map(self, do: Callable[[World, Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Have each task done in some process's world; yields the results in the order of the tasks."""
        return self._pool.map(_in_world, *zip(*((do, task) for task in tasks), strict=True))

    def close(self) -> None:
        """Send everybody home; what has not been begun is not done any more."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _settle_in(image: bytes, without: str | None) -> None:
    assert workflows.__doc__  # imported: it declares the tasks
    if without:
        MUTATIONS[without](_open.enter_context(pytest.MonkeyPatch.context()))
    _worlds.append(_open.enter_context(open_world(image)))


def _in_world(do: Callable[[World, Task], Result], task: Task) -> Result:
    return do(_worlds[0], task)
