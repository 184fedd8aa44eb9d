"""The database of a world: SQLite in memory, on one connection, made from an image."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

import durable_sagas
from app import runtime
from app.database import Database, after_commit
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from durable_sagas.database import prepare_sqlite
from tests.simulation.mishaps import Boundary
from workflows.seed_data import seed

Reach = Callable[[Boundary], None]


class Store(Database):
    """A database in memory, of one connection, whose transactions are boundaries."""

    def __init__(self, reach: Reach, before: Boundary, after: Boundary, twin: "Store | None" = None) -> None:
        self._reach, self._before, self._after = reach, before, after
        self.url = "sqlite://"
        self.engine = twin.engine if twin else create_engine(self.url, poolclass=StaticPool)
        durable_sagas.Database.__init__(self, sessionmaker(self.engine))
        if twin is None:
            prepare_sqlite(self.engine)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run the block in one transaction, and notice its beginning and its commit."""
        self._reach(self._before)
        with super().transaction() as session:
            # the first to be called after the commit: before any message is sent
            after_commit(session, partial(self._reach, self._after))
            yield session


@cache
def template() -> bytes:
    """Return the image of a migrated and seeded database."""
    before = runtime.current()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seeded.db"
        settings = Settings(database_url=f"sqlite:///{path}")
        migrate(settings.database_url)
        here = runtime.use(Runtime(settings))
        seed()
        here.close()
        runtime.use(before)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")  # an image in memory knows no write-ahead log
        connection.execute("VACUUM")
        image = connection.serialize()
        connection.close()
    return image
