"""The two ways in which the product runs, each with data of its own: embedded, and on servers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from app.settings import Settings
from bench.scaling.processes import Processes, audit, count_redriven, open_processes
from bench.scaling.shop import Shop
from tests.testkit.private_servers import folder_for_servers
from tests.testkit.processes import free_port, kill_group, process_environment, spawn, wait_for
from tests.testkit.shop import OPERATOR_TOKEN


class Stack(Protocol):
    """A running shop."""

    url: str
    token: str

    @property
    def database_url(self) -> str:
        """Return where its data are."""

    def audit(self) -> tuple[bool, str]:
        """Run the audit; returns whether it is clean, and what it said."""

    def redriven(self) -> int:
        """Return how many sagas its sweeps have driven on so far."""

    def describe(self) -> dict[str, str]:
        """Return what a reader of the figures has to know of it."""


class Embedded:
    """``python -m app run`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        # said here as far as the embedded default depends on it; the rest is what the product has by itself
        self._settings = Settings(
            database_url=f"sqlite:///{folder / 'shop.db'}",
            broker_url="memory://",
            redis_url=None,
            port=free_port(),
            operator_token=SecretStr(OPERATOR_TOKEN),
        )
        self.url = f"http://127.0.0.1:{self._settings.port}"
        self.token = OPERATOR_TOKEN
        self.database_url = self._settings.database_url
        self._log = folder / "run.log"
        self._environment = {**process_environment(self._settings), "TMPDIR": str(folder)}
        self._process = spawn([sys.executable, "-m", "app", "run"], self._environment, self._log)

    def audit(self) -> tuple[bool, str]:
        """Run the audit as a process of its own."""
        return audit(self._environment)

    def redriven(self) -> int:
        """Return how many sagas its sweeps have driven on so far, by its log."""
        return count_redriven(self._log)

    def describe(self) -> dict[str, str]:
        """Return what a reader of the figures has to know of it."""
        return {"started by": "python -m app run", "database": "SQLite"}

    def end(self) -> None:
        """End it."""
        kill_group(self._process)


@contextmanager
def open_embedded() -> Iterator[Embedded]:
    """Run the embedded default as a process of its own; it has ended, and left nothing, when the block is left."""
    with folder_for_servers() as folder:
        embedded = Embedded(folder)
        try:
            wait_for("the embedded shop to answer", Shop(embedded.url, embedded.token).ready)
            yield embedded
        finally:
            embedded.end()


@contextmanager
def open_servers(database_url: str | None = None, broker: str = "rabbitmq") -> Iterator[Processes]:
    """Run the shop on PostgreSQL and a broker, started as the Procfile does it. Raises NotUsable."""
    with open_processes(broker, 0, as_procfile=True, database_url=database_url) as processes:
        yield processes


STACKS: dict[str, Callable[[], AbstractContextManager[Stack]]] = {"embedded": open_embedded, "servers": open_servers}


def complaints(stack: Stack) -> list[str]:
    """Run the audit; returns what is wrong."""
    clean, said = stack.audit()
    return [] if clean else [f"the audit is not clean: {said.strip()}"]
