"""The three stacks on which chaos reigns, each with everything in a folder of its own."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from durable_sagas.messaging.batcher import MAX_BATCH
from tests.chaos.plan import Target
from tests.chaos.supervisor import CHILD, GROUP, MAIN, Command, Supervisor
from tests.testkit.private_servers import PrivatePostgresql, PrivateRabbitmq, PrivateRedis, Server
from tests.testkit.processes import free_port, role_commands, wait_for
from tests.testkit.shop import OPERATOR_TOKEN, Shop, http_transport
from tests.testkit.stacks import is_ready, prepared
from workflows import QUEUES

BROKERS: dict[str, type[PrivateRabbitmq | PrivateRedis]] = {"rabbitmq": PrivateRabbitmq, "redis": PrivateRedis}
EMBEDDED = "embedded"
STACKS = (*BROKERS, EMBEDDED)

ONE_PROCESS = frozenset({"orders", "inventory", "notifications", "orchestrator"})
"""Those whose worker is one process, which does together what has come together: they call nobody outside."""

GATHERING = ["--pool", "solo", "--prefetch-multiplier", str(MAX_BATCH)]


@dataclass(frozen=True)
class Stack:
    """A running CloudMart with its servers, its roles, and what of both may be struck."""

    name: str
    folder: Path
    base_url: str
    shop: Shop
    servers: dict[str, Server]
    supervisor: Supervisor
    targets: tuple[Target, ...]
    seconds_per_blow: float
    """How close blows may fall without striking only what has not come up again."""


@contextmanager
def open_stack(name: str, folder: Path) -> Iterator[Stack]:
    """Start a stack in an empty folder; everything that was started has ended when the block is left.

    The folder must be one that other users may enter: PostgreSQL may have to run as one. Raises MissingServer.
    """
    with ExitStack() as stack:
        servers = dict(_servers(name, folder))
        for server in servers.values():
            stack.callback(server.end)
        with ThreadPoolExecutor() as starters:
            list(starters.map(lambda server: server.start(), servers.values()))
        settings = _settings(name, folder, servers)
        here = prepared(settings)
        stack.callback(here.close)
        supervisor = Supervisor(_commands(name, settings), settings, folder)
        stack.callback(supervisor.end)
        supervisor.start()
        base_url = f"http://127.0.0.1:{settings.port}"
        shop = Shop(http_transport(base_url), here)
        wait_for(f"{name} to be ready, see {folder}", lambda: is_ready(shop))
        targets = tuple(_targets(name, servers))
        yield Stack(name, folder, base_url, shop, servers, supervisor, targets, 4.0 if name == EMBEDDED else 1.5)


def _servers(name: str, folder: Path) -> Iterator[tuple[str, Server]]:
    if name == EMBEDDED:
        return
    for kind in (PrivatePostgresql, BROKERS[name]):
        own = folder / kind.NAME
        own.mkdir()
        yield kind.NAME, kind(own)


def _settings(name: str, folder: Path, servers: dict[str, Server]) -> Settings:
    database = servers.get(PrivatePostgresql.NAME)
    broker = servers.get(name)
    return Settings(
        database_url=database.url if database else f"sqlite:///{folder / 'shop.db'}",
        broker_url=broker.url if broker else "memory://",
        port=free_port(),
        fault_injection=True,
        operator_token=OPERATOR_TOKEN,  # type: ignore[arg-type]
        # long enough for every restart: what is undone for its deadline has been forgotten by somebody
        step_timeout_seconds=60,
        order_timeout_seconds=120,
        # short, and yet longer than a message waits in a queue: the sweep cannot tell what waits from what is lost
        stall_seconds=5,
        sweep_seconds=0.5,
    )


def _commands(name: str, settings: Settings) -> dict[str, Command]:
    if name == EMBEDDED:
        return {"run": lambda: [sys.executable, "-m", "app", "run"]}

    def command_of(role: str) -> Command:
        if role not in QUEUES:
            return lambda: role_commands(settings)[role]
        options = GATHERING if role in ONE_PROCESS else []
        # without the events for Flower, which would cost half of what two cores can do
        return lambda: [part for part in role_commands(settings)[role] if part != "-E"] + options

    return {role: command_of(role) for role in role_commands(settings)}


def _targets(name: str, servers: dict[str, Server]) -> Iterator[Target]:
    if name == EMBEDDED:
        yield Target("run", [GROUP], 100)
        return
    for server in servers.values():
        yield Target(server.NAME, server.WAYS, 10, sure=True)
    yield Target("beat", [GROUP], 8)
    yield Target("web", [GROUP, MAIN, CHILD], 12)
    for queue in QUEUES:
        ways = [GROUP, MAIN] if queue in ONE_PROCESS else [GROUP, MAIN, CHILD]
        yield Target(queue, ways, 60 / len(QUEUES))
