"""What PostgreSQL writes into its log of what the shop refuses: no address, no name, and no error at all."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from app.errors import Invalid, RequestError
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from tasks import inventory
from tasks.inventory import Book
from tests.testkit.messages import Post
from tests.testkit.private_servers import MissingServer, PrivatePostgresql, folder_for_servers
from tests.testkit.processes import wait_for
from tests.testkit.servers import not_here
from workflows import catalogue, orders
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.seed_data import seed

ADDRESS = "9 Sakura Street"
OPERATOR = "Ann Example"


@pytest.fixture
def server() -> Iterator[PrivatePostgresql]:
    with folder_for_servers() as folder:
        try:
            server = PrivatePostgresql(folder)
        except MissingServer as missing:
            not_here(str(missing))
        try:
            server.start()
            migrate(server.url)
            yield server
        finally:
            server.end()


@pytest.fixture
def settings(settings: Settings, server: PrivatePostgresql) -> Settings:
    return settings.but(database_url=server.url)


@pytest.fixture
def shop(here: Runtime, post: Post) -> Runtime:
    seed()
    return here


def test_what_is_refused_leaves_no_error_in_the_servers_log(
    shop: Runtime, server: PrivatePostgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors_before = log_of(server).count("ERROR:")

    with pytest.raises(Invalid, match="no customer"):
        place(order(customer_id="nobody"))
    place(order(order_id="mine"), "key")
    with pytest.raises(Invalid, match="for a different request"):
        place(order(order_id="mine", quantity=2))
    generated = place(order())
    with pytest.raises(Invalid, match="there is an order"):
        place(order(order_id=generated.order_id))
    assert len({one.order_id for one in place_at_the_same_time(order(order_id="ours"), monkeypatch)}) == 1
    catalogue.restock("item-001", 1, by=OPERATOR, key="delivery")
    with pytest.raises(RequestError):
        catalogue.restock("book-789", 1, by=OPERATOR, key="delivery")
    with shop.database.transaction() as session:  # as if the key was not found, for another used it only now
        book = session.get_one(Book, "book-789")
        assert not inventory.receive(session, book, 1, key="delivery", by=OPERATOR)

    log = log_of(server)
    assert ADDRESS not in log
    assert OPERATOR not in log
    assert log.count("ERROR:") == errors_before + 1, log  # that of the second look itself


def order(*, quantity: int = 1, customer_id: str = "guest", order_id: str | None = None) -> NewOrder:
    return NewOrder(
        (Item("item-001", quantity),),
        Pattern.ORCHESTRATION,
        customer_id=customer_id,
        shipping_address=ADDRESS,
        order_id=order_id,
    )


def place_at_the_same_time(request: NewOrder, monkeypatch: pytest.MonkeyPatch) -> list[PlacedOrder]:
    """Send a request twice such that neither finds the other when it looks."""
    look, both, looks = orders._find_replay, threading.Barrier(2), itertools.count()

    def look_and_wait(*arguments: object) -> PlacedOrder | None:
        found = look(*arguments)  # type: ignore[arg-type]
        if next(looks) < 2:
            both.wait(60)
        return found

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as clients:
        patch.setattr(orders, "_find_replay", look_and_wait)
        return list(clients.map(place, [request, request]))


def log_of(server: PrivatePostgresql) -> str:
    """Return the server's log, once it has what fails now."""
    log, missing = server.folder / "server.log", f"missing_{uuid4().hex}"
    administrator = create_engine(server.url)
    with administrator.connect() as connection, pytest.raises(ProgrammingError):
        connection.execute(text(f"SELECT {missing}"))
    administrator.dispose()
    wait_for("the log", lambda: f"STATEMENT:  SELECT {missing}" in log.read_text())
    return log.read_text()
