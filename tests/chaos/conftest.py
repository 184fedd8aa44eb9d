"""Stacks for the tests of a module: each is started when its first test wants it, and ended after its last."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stack import Stack, open_stack
from tests.testkit.private_servers import MissingServer, folder_for_servers
from tests.testkit.processes import end_of
from tests.testkit.servers import not_here


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack of this name. What is not installed skips the test, or fails it in CI."""
    with folder_for_servers() as folder:
        try:
            with open_stack(request.param, folder) as stack:
                yield stack
        except MissingServer as missing:
            not_here(str(missing))


@pytest.fixture
def logs(stack: Stack) -> Iterator[None]:
    """Show the end of each process's log if the test fails: pytest shows what is written to its output then."""
    yield
    for log in sorted(Path(stack.folder).rglob("*.log")):
        sys.stdout.write(f"--- {log.relative_to(stack.folder)}\n{end_of(log)}\n")
