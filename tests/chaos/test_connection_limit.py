"""A shop that connects as a superuser, as in docker-compose.yml, notices when all connections are taken."""

from contextlib import ExitStack, closing, suppress

import psycopg2
from sqlalchemy.engine import make_url

from app.database import Database
from app.saga import outage
from tests.testkit.private_servers import MissingServer, PrivatePostgresql, folder_for_servers
from tests.testkit.servers import not_here


def test_a_superuser_is_short_of_connections_once_the_reserved_ones_are_taken_as_well() -> None:
    with ExitStack() as opened:
        try:
            server = PrivatePostgresql(opened.enter_context(folder_for_servers()))
        except MissingServer as missing:
            not_here(str(missing))
        opened.callback(server.end)
        server.start()
        database = opened.enter_context(closing(Database(server.url)))
        assert not exhausted(database)  # and the pool keeps the connection

        with suppress(psycopg2.OperationalError):
            while True:
                url = make_url(server.url)
                connection = psycopg2.connect(host=url.host, port=url.port, user=url.username, dbname=url.database)
                opened.callback(connection.close)

        assert exhausted(database)


def exhausted(database: Database) -> bool:
    with database.reading() as session:
        return outage._connections_exhausted(session)
