"""Several processes, each with a world of its own, because one order costs tens of milliseconds and there are many."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import pytest

import workflows
from tests.simulation.mutations import MUTATIONS
from tests.simulation.store import template
from tests.simulation.world import World, open_world

Task = TypeVar("Task")
Result = TypeVar("Result")

_worlds: list[World] = []
_open = ExitStack()  # until the process ends


@contextmanager
def open_crew(without: str | None = None) -> Iterator[ProcessPoolExecutor]:
    """Run a process per processor for functions made by ``in_world``; at the end, what has not begun is dropped.

    ``without`` names a protection of the engine to be taken out; see ``mutations``.
    """
    # spawned: a fork would take the parent's connections and locks along
    crew = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _settle_in, (template(), without))
    try:
        yield crew
    finally:
        crew.shutdown(cancel_futures=True)


def in_world(function: Callable[[World, Task], Result]) -> Callable[[Task], Result]:
    """Return the function with the world of the process that calls it."""
    return partial(_call_in_world, function)


def _call_in_world(function: Callable[[World, Task], Result], task: Task) -> Result:
    return function(_worlds[0], task)


def _settle_in(image: bytes, without: str | None) -> None:
    assert workflows.__doc__  # imported: it declares the tasks
    if without:
        MUTATIONS[without](_open.enter_context(pytest.MonkeyPatch.context()))
    _worlds.append(_open.enter_context(open_world(image)))
