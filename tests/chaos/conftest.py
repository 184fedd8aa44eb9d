"""Stacks of their own for the tests: started, and ended, by each."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.chaos.stack import Stack, open_stack
from tests.testkit.private_servers import MissingServer, folder_for_servers
from tests.testkit.processes import end_of
from tests.testkit.servers import not_here


class OpenStack(Protocol):
    """Starts a stack by its name, with changes to its settings."""

    def __call__(self, name: str, **changes: Any) -> Stack: ...


@pytest.fixture
def start() -> Iterator[OpenStack]:
    """Start a stack by its name; it ends with the test. What is not installed skips the test, or fails it in CI.

    A test that fails shows the end of each process's log.
    """
    with ExitStack() as running:

        def open_here(name: str, **changes: Any) -> Stack:
            folder = running.enter_context(folder_for_servers())
            running.callback(_print_logs, folder)
            try:
                return running.enter_context(open_stack(name, folder, **changes))
            except MissingServer as missing:
                not_here(str(missing))

        yield open_here


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.rglob("*.log")):
        sys.stdout.write(f"--- {log.relative_to(folder)}\n{end_of(log)}\n")
