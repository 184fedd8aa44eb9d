"""The database's address leads to a read-only standby for a while: web and sweep recover when it no longer does."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app.migrations import migrate
from app.runtime import Runtime
from app.saga import recovery
from app.settings import Settings
from tests.chaos.relay import Relay
from tests.testkit.private_servers import MissingServer, PrivatePostgresql, folder_for_servers
from tests.testkit.processes import wait_for
from tests.testkit.servers import not_here
from workflows.seed_data import seed

ORDER = {"items": [{"product_id": "item-001", "quantity": 1}]}


@dataclass(frozen=True)
class Servers:
    """A primary, a standby that follows it, and the address that leads to one of them."""

    primary: PrivatePostgresql
    standby: PrivatePostgresql
    address: Relay


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with folder_for_servers() as folder:
        for name in ("primary", "standby"):
            (folder / name).mkdir()
        try:
            primary = PrivatePostgresql(folder / "primary")
        except MissingServer as missing:
            not_here(str(missing))
        primary.start()
        try:
            standby = PrivatePostgresql(folder / "standby", primary)
            standby.start()
            with Relay(primary.port) as address:
                yield Servers(primary, standby, address)
            standby.end()
        finally:
            primary.end()


@pytest.fixture
def settings(settings: Settings, servers: Servers) -> Settings:
    migrate(servers.primary.url)
    there = make_url(servers.primary.url).set(port=servers.address.port)
    return settings.but(database_url=there.render_as_string(hide_password=False))


@pytest.fixture
def client(here: Runtime, client: FlaskClient) -> FlaskClient:
    seed()
    return client


@pytest.mark.usefixtures("post")
def test_writes_go_on_as_soon_as_the_address_leads_to_the_primary_again(client: FlaskClient, servers: Servers) -> None:
    assert_writes(client)

    servers.address.lead_to(servers.standby.port)
    servers.address.cut()
    assert_writes_not(client)

    servers.address.lead_to(servers.primary.port)  # what was connected to the standby stays connected
    assert_writes(client)


@pytest.mark.usefixtures("post")
def test_a_primary_that_becomes_read_only_is_left(client: FlaskClient, servers: Servers) -> None:
    assert_writes(client)

    alter(servers.primary, "ALTER SYSTEM SET default_transaction_read_only = on")
    wait_for("the server to refuse writes", lambda: status_of_order(client) == 503, 30)
    assert_writes_not(client)

    alter(servers.primary, "ALTER SYSTEM RESET default_transaction_read_only")
    wait_for("the server to take writes", lambda: status_of_order(client) == 202, 30)
    assert_writes(client)


def test_a_process_whose_connections_have_become_read_only_is_not_ready_before_it_tried_to_write(
    client: FlaskClient, here: Runtime
) -> None:
    with here.database.reading() as session:
        session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))

    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").status_code == 200


def assert_writes(client: FlaskClient) -> None:
    """Assert that the web takes orders, calls itself ready, and that the sweep runs."""
    answer = client.post("/api/v1/orders", json=ORDER)
    assert answer.status_code == 202, answer.text
    assert client.get("/readyz").status_code == 200
    assert recovery.sweep_if_available() is not None


def assert_writes_not(client: FlaskClient) -> None:
    assert recovery.sweep_if_available() is None
    assert status_of_order(client) == 503
    problem = client.get("/readyz")
    assert (problem.status_code, problem.get_json()["facts"]["database"]) == (503, "no answer")


def status_of_order(client: FlaskClient) -> int:
    return client.post("/api/v1/orders", json=ORDER).status_code


def alter(server: PrivatePostgresql, statement: str) -> None:
    """Change the configuration of a running server; its sessions read it soon after this returns."""
    administrator = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(statement))
        connection.execute(text("SELECT pg_reload_conf()"))
    administrator.dispose()
