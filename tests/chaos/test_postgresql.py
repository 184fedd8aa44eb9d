"""A PostgreSQL and its standby: what their states and configuration do to a shop, and what their log says of it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple
from unittest.mock import DEFAULT, Mock
from uuid import uuid4

import psycopg2
import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from app.database import Database
from app.errors import Invalid, RequestError
from app.migrations import migrate
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas import outages
from tasks import inventory
from tasks.inventory import Book
from tests.testkit.private_servers import MissingServer, PrivatePostgresql, folder_for_servers
from tests.testkit.processes import wait_for
from tests.testkit.relay import Relay
from tests.testkit.servers import not_here
from workflows import catalogue, orders
from workflows.orders import Item, NewOrder, Pattern, place
from workflows.seed_data import seed

ORDER = {"items": [{"product_id": "item-001", "quantity": 1}]}
ADDRESS = "9 Sakura Street"
OPERATOR = "Ann Example"


class Servers(NamedTuple):
    """A primary, a standby that follows it, and the address that leads to one of them."""

    primary: PrivatePostgresql
    standby: PrivatePostgresql
    address: Relay


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as opened:
        folder = opened.enter_context(folder_for_servers())
        for name in ("primary", "standby"):
            (folder / name).mkdir()
        try:
            primary = PrivatePostgresql(folder / "primary")
        except MissingServer as missing:
            not_here(str(missing))
        opened.callback(primary.end)
        primary.start()
        migrate(primary.url)
        standby = PrivatePostgresql(folder / "standby", primary)
        opened.callback(standby.end)
        standby.start()
        yield Servers(primary, standby, opened.enter_context(Relay(primary.port)))


@pytest.fixture
def settings(settings: Settings, servers: Servers) -> Settings:
    there = make_url(servers.primary.url).set(port=servers.address.port)
    return settings.but(database_url=there.render_as_string(hide_password=False))


@pytest.fixture
def here(here: Runtime) -> Runtime:
    seed()
    return here


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
    assert sagas.sweep_if_available() is not None


def assert_writes_not(client: FlaskClient) -> None:
    assert sagas.sweep_if_available() is None
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


@pytest.mark.usefixtures("post")
def test_what_is_refused_leaves_no_error_in_the_servers_log(
    here: Runtime, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log_of(servers.primary)

    with pytest.raises(Invalid, match="no customer"):
        place(an_order(customer_id="nobody"))
    place(an_order(order_id="mine"), "key")
    with pytest.raises(Invalid, match="for a different request"):
        place(an_order(order_id="mine", quantity=2))
    generated = place(an_order())
    with pytest.raises(Invalid, match="there is an order"):
        place(an_order(order_id=generated.order_id))
    with monkeypatch.context() as patch:  # as if neither of two at the same time found the other when it looked
        patch.setattr(orders, "_find_replay", look := Mock(wraps=orders._find_replay, side_effect=[None, DEFAULT]))
        assert (place(an_order(order_id="mine"), "key").order_id, look.call_count) == ("mine", 2)
    catalogue.restock("item-001", 1, by=OPERATOR, key="delivery")
    with pytest.raises(RequestError):
        catalogue.restock("book-789", 1, by=OPERATOR, key="delivery")
    with here.database.transaction() as session:  # as if the key was not found, for another used it only now
        book = session.get_one(Book, "book-789")
        assert not inventory.receive(session, book, 1, key="delivery", by=OPERATOR)

    log = log_of(servers.primary)[len(before) :]
    assert ADDRESS not in log
    assert OPERATOR not in log
    assert log.count("ERROR:") == 1, log  # that of the second look itself


def an_order(*, quantity: int = 1, customer_id: str = "guest", order_id: str | None = None) -> NewOrder:
    return NewOrder(
        (Item("item-001", quantity),),
        Pattern.ORCHESTRATION,
        customer_id=customer_id,
        shipping_address=ADDRESS,
        order_id=order_id,
    )


def log_of(server: PrivatePostgresql) -> str:
    """Return the server's log, once it has what fails now."""
    log, missing = server.folder / "server.log", f"missing_{uuid4().hex}"
    administrator = create_engine(server.url)
    with administrator.connect() as connection, pytest.raises(ProgrammingError):
        connection.execute(text(f"SELECT {missing}"))
    administrator.dispose()
    wait_for("the log", lambda: f"STATEMENT:  SELECT {missing}" in log.read_text(errors="replace"))
    return log.read_text()


def test_a_superuser_is_short_of_connections_once_the_reserved_ones_are_taken_as_well(servers: Servers) -> None:
    url = make_url(servers.primary.url)  # a shop may connect as a superuser, as in docker-compose.yml
    with ExitStack() as opened:
        database = opened.enter_context(closing(Database(servers.primary.url)))
        assert not exhausted(database)  # and the pool keeps the connection

        with suppress(psycopg2.OperationalError):
            while True:
                connection = psycopg2.connect(host=url.host, port=url.port, user=url.username, dbname=url.database)
                opened.callback(connection.close)

        assert exhausted(database)


def exhausted(database: Database) -> bool:
    with database.reading() as session:
        return outages._connections_exhausted(session)
