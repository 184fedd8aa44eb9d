"""The stacks that the scenarios run on: in the caller, in this process, and on real servers with real workers.

Every stack is driven through its public HTTP API, so one suite fits all.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from app import runtime
from app.celery import app as celery
from app.celery import configuration
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from cli.embedded import embedded_stack
from tests.testkit.processes import free_port, role_commands, roles
from tests.testkit.servers import fresh_postgresql_database, open_broker, require_postgresql
from tests.testkit.shop import OPERATOR_TOKEN, Shop, flask_transport, http_transport
from web import create_app
from workflows import QUEUES
from workflows.seed_data import seed


def short_settings(**changes: Any) -> Settings:
    """Return settings with deadlines that a test can wait for."""
    short = {"step_timeout_seconds": 3, "order_timeout_seconds": 4, "stall_seconds": 3, "sweep_seconds": 0.5}
    return Settings(**{"fault_injection": True, "operator_token": OPERATOR_TOKEN, **short, **changes})


def open_shop(stack: str, seeded: Path, folder: Path, **changes: Any) -> AbstractContextManager[Shop]:
    """Run a CloudMart on a stack: eager, memory, or postgresql+<broker>.

    ``changes`` are settings; on a broker ``absent`` names a role that is not started, ``web_workers`` is how many
    processes serve the web, and ``queues`` are those that have a worker.
    """
    if stack in {"eager", "memory"}:
        return _local_shop(stack == "eager", seeded, folder, **changes)
    return _server_shop(stack.partition("+")[2], folder, **changes)


@contextmanager
def in_process(settings: Settings, *, eager: bool = False) -> Iterator[Runtime]:
    """Give this process a runtime of these settings; ``eager`` has Celery run each task where it is sent."""
    before = runtime.current()
    here = runtime.use(Runtime(settings))
    celery.conf.update(configuration(settings))
    celery.conf.task_always_eager = eager
    try:
        yield here
    finally:
        celery.conf.task_always_eager = False
        here.close()
        runtime.use(before)


@contextmanager
def _local_shop(eager: bool, seeded: Path, folder: Path, **changes: Any) -> Iterator[Shop]:
    """The embedded stack, with real messages in this process's memory; or an eager one, where a POST returns late."""
    path = folder / "shop.db"
    shutil.copy(seeded, path)
    settings = short_settings(database_url=f"sqlite:///{path}", broker_url="memory://", **changes)
    with in_process(settings, eager=eager) as here, nullcontext() if eager else embedded_stack(here):
        yield Shop(flask_transport(create_app().test_client()), here)


@contextmanager
def _server_shop(
    broker: str,
    folder: Path,
    absent: str | None = None,
    web_workers: int = 1,
    queues: Sequence[str] = QUEUES,
    **changes: Any,
) -> Iterator[Shop]:
    """PostgreSQL and a real broker; web, scheduler and one worker per service, but one, are processes of their own."""
    require_postgresql()
    with ExitStack() as stack:
        broker_url = stack.enter_context(open_broker(broker))
        database_url = stack.enter_context(fresh_postgresql_database())
        settings = short_settings(database_url=database_url, broker_url=broker_url, port=free_port(), **changes)
        here = prepared(settings)
        stack.callback(here.close)
        every = role_commands(settings, web_workers, queues)
        commands = {role: command for role, command in every.items() if role != absent}
        stack.enter_context(roles(commands, settings, folder))
        shop = Shop(http_transport(f"http://127.0.0.1:{settings.port}"), here)
        shop.wait_for(lambda: is_ready(shop), lambda ready: ready)
        # an order's deadlines must not pay for workers that are still starting
        workers = [folder / f"{queue}.log" for queue in queues if queue in commands]
        shop.wait_for(
            lambda: [log.name for log in workers if b" ready." not in log.read_bytes()], lambda late: not late
        )
        yield shop


def prepared(settings: Settings) -> Runtime:
    """Return a runtime of these settings, whose database is migrated and seeded; this process goes on with its own."""
    before = runtime.current()
    here = runtime.use(Runtime(settings))
    try:
        migrate(settings.database_url)
        seed()
    finally:
        runtime.use(before)
    return here


def is_ready(shop: Shop) -> bool:
    """Return whether a shop's web process answers, and has what it needs."""
    try:
        return shop.get("/readyz").status == 200
    except OSError:
        return False
