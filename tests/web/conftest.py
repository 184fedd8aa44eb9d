"""The fixtures of the web's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import BytecodeCache, FileSystemBytecodeCache

from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.client import PASSWORD, Browser
from tests.testkit.private_servers import MissingServer, PrivateRedis
from tests.testkit.servers import not_here
from tests.testkit.web import SEED_ORDER, PlaceUnsent, lose_messages, post
from web import create_app


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> BytecodeCache:
    """The templates as an earlier app of this process compiled them: every app would compile its own."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def flask_app(flask_app: Flask, compiled_templates: BytecodeCache) -> Flask:
    flask_app.jinja_env.bytecode_cache = compiled_templates
    return flask_app


@pytest.fixture
def no_messages(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent: eager Celery would have finished a saga before the request that started it answers."""
    lose_messages(monkeypatch)


@pytest.fixture
def place_unsent(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> PlaceUnsent:
    """Place an order whose own messages are lost; what is asked of it afterwards is sent, and done at once."""

    def place(body: object) -> dict[str, Any]:
        with monkeypatch.context() as stopped:
            lose_messages(stopped)
            return post(client, "/api/v1/orders", body)

    return place


@pytest.fixture
def saga_id(place_unsent: PlaceUnsent) -> str:
    """A saga that waits for its first step."""
    return str(place_unsent(SEED_ORDER)["saga_id"])


@pytest.fixture
def strict_client(here: Runtime, settings: Settings) -> FlaskClient:
    """A client of an installation where faults may not be simulated."""
    here.close()
    return Browser(create_app(settings.but(fault_injection=False)))


@pytest.fixture
def operator(client: Browser, here: Runtime) -> Browser:
    """The client, logged in as the operator Ann."""
    here.settings = here.settings.but(operator_password=PASSWORD)
    assert client.log_in().status_code == 303
    return client


@pytest.fixture
def order(client: FlaskClient) -> dict[str, Any]:
    """The answer to seed 003's order."""
    return post(client, "/api/v1/orders", SEED_ORDER)


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    """A Redis of the test's own, which it may take away."""
    try:
        server = PrivateRedis(tmp_path)
    except MissingServer as missing:
        not_here(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.end()
