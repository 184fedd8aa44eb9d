"""Stacks of their own for the tests: started, and ended, by each."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from tests.chaos.folder import folder_for_servers
from tests.chaos.servers import MissingServer
from tests.chaos.stack import Stack, open_stack
from tests.stacks import not_here


class OpenStack(Protocol):
    """Starts a stack by its name, with changes to its settings."""

    def __call__(self, name: str, **changes: Any) -> Stack: ...


@pytest.fixture
def start() -> Iterator[OpenStack]:
    """Start a stack by its name; it ends with the test. What is not installed skips the test, or fails it in CI."""
    with ExitStack() as running:

        def open_here(name: str, **changes: Any) -> Stack:
            try:
                return running.enter_context(open_stack(name, running.enter_context(folder_for_servers()), **changes))
            except MissingServer as missing:
                not_here(str(missing))

        yield open_here
