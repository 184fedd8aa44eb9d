"""What every test stands on: a fresh database, and Celery run in the caller (eager) unless a test says otherwise."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.canvas import Signature
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from kombu.exceptions import OperationalError
from sqlalchemy.engine import make_url
from xdist.remote import Producer

from app import runtime
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from cli import environment
from cli.main import commands
from durable_sagas.messaging.publisher import Message, Publisher
from tests.testkit.client import Browser, Typed
from tests.testkit.messages import Clock, Post
from tests.testkit.orders import eager, fill, place_old_orders
from tests.testkit.parallel import OneShopPerServer
from tests.testkit.servers import fresh_postgresql_database, require_postgresql
from tests.testkit.stacks import in_process
from web import create_app
from workflows.seed_data import seed


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneShopPerServer:
    """Run tests side by side without any two in each other's way."""
    return OneShopPerServer(config, log)


@pytest.fixture(scope="session")
def seeded_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and seeded SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "seeded.db"
    settings = Settings(database_url=f"sqlite:///{path}")
    migrate(settings.database_url)
    here = runtime.use(Runtime(settings))
    seed()
    here.close()
    return path


@pytest.fixture(scope="session")
def filled_sqlite(seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file in which everything has happened, to be copied."""
    path = tmp_path_factory.mktemp("template") / "filled.db"
    shutil.copy(seeded_database, path)
    with eager(f"sqlite:///{path}"):
        fill()
    return path


@pytest.fixture(scope="session")
def seeded_postgresql() -> Iterator[str]:
    """The name of a migrated and seeded database of PostgreSQL, to be copied."""
    require_postgresql()
    with fresh_postgresql_database() as url:
        migrate(url)
        with eager(url):
            seed()
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def filled_postgresql(seeded_postgresql: str) -> Iterator[str]:
    """The name of a database of PostgreSQL in which everything has happened, to be copied."""
    with fresh_postgresql_database(seeded_postgresql) as url:
        quick = make_url(url).update_query_dict({"options": "-c synchronous_commit=off"})
        with eager(quick.render_as_string(hide_password=False)):
            fill()
        yield str(make_url(url).database)


@pytest.fixture
def settings(seeded_database: Path, tmp_path: Path) -> Settings:
    """Settings of an embedded installation with a database of its own and short deadlines."""
    path = tmp_path / "test.db"
    shutil.copy(seeded_database, path)
    return Settings(
        database_url=f"sqlite:///{path}",
        broker_url="memory://",
        step_timeout_seconds=1,
        order_timeout_seconds=2,
        stall_seconds=1,
        fault_injection=True,
    )


@pytest.fixture
def here(settings: Settings) -> Iterator[Runtime]:
    """This process's runtime, with Celery eager: a task runs where it is sent."""
    with in_process(settings, eager=True) as here:
        yield here


@pytest.fixture
def flask_app(here: Runtime) -> Flask:
    app = create_app()
    app.test_client_class = Browser
    return app


@pytest.fixture
def client(flask_app: Flask) -> FlaskClient:
    return flask_app.test_client()


@pytest.fixture
def typed(here: Runtime, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command of ``python -m app``, which finds the test's database as all its settings: in the environment."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.delenv("BROKER_URL", raising=False)
    monkeypatch.setattr(environment, "configure_logging", lambda *_: None)  # it would outlive the test
    return lambda *arguments: CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.fixture
def post(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> Post:
    """Hold back every message. A chain is held as its single steps: they are what crosses the wire."""
    held = Post()

    def hold(_: Publisher, message: Message) -> None:
        if held.away:
            raise OperationalError("the broker is away")
        for link in (message.link, *reversed(message.rest)):
            # without its error callback: a test that wants it delivers it
            options = {"task_id": link["options"]["task_id"]}
            held.waiting.append(Signature.from_dict({**link, "options": options}))

    monkeypatch.setattr(Publisher, "publish", hold)
    return held


@pytest.fixture
def clock(here: Runtime) -> Clock:
    here.now = Clock()
    return here.now


@pytest.fixture
def old(here: Runtime) -> set[str]:
    """Orders that ended long ago: the ids of their sagas."""
    return place_old_orders(here)
