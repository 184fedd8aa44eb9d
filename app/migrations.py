"""Migrate the schema with Alembic, which is the only way that it is created."""

import io
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Column, func, select, table, text
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import DatabaseUnavailable, MigrationFailed
from app.settings import ROOT
from durable_sagas.database.session import database_faults

logger = logging.getLogger(__name__)

ADVISORY_LOCK_KEY = 0x436C6F75644D6172
"""The key of the PostgreSQL advisory lock held during a migration."""

LOCK_TIMEOUT_SECONDS = 2.0
"""How long a migration waits for a table lock, and so how long others may queue behind it."""

MAX_ATTEMPTS = 15
"""Maximum number of attempts at a revision whose table is locked."""

RETRY_DELAY_SECONDS = 2.0
"""The delay between attempts, during which the shop is undisturbed."""

DATABASE_ONLY = frozenset({("events", "created_at")})
"""Columns that the database fills in for SQL users; they are not part of the models."""

_NO_LOCK = "55P03"
_DROPS = re.compile(r"^(?:DROP TABLE (\w+)|ALTER TABLE (\w+) DROP COLUMN (\w+))", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """The current revision of a database (None if it is empty), the newest, and the pending ones, oldest first."""

    current: str | None
    newest: str
    pending: Sequence[Script]


def config(database_url: str) -> Config:
    """Return Alembic's configuration for one database."""
    settings = Config()
    settings.set_main_option("script_location", str(ROOT / "migrations"))
    settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    settings.attributes["database_url"] = database_url
    return settings


def migrate(database_url: str) -> None:
    """Upgrade a database to the newest schema; does nothing if it is up to date.

    Raises DatabaseUnavailable, and MigrationFailed if the database is newer than this code, or its tables stay locked.
    """
    if status(database_url).pending:
        _retry_while_locked(lambda: command.upgrade(config(database_url), "head"))


def step_back(database_url: str) -> str:
    """Downgrade a database by one revision; return that revision. Raises DatabaseUnavailable and MigrationFailed."""
    current = status(database_url).current
    if current is None:
        raise MigrationFailed("the database is empty: there is nothing to take back")
    # named, and not "-1": two concurrent downgrades must take back one revision, not two
    before = _scripts(database_url).get_revision(current).down_revision or "base"
    _retry_while_locked(lambda: command.downgrade(config(database_url), f"{before}"))
    return current


def belongs_to_models(item: object, name: str | None, *_: object) -> bool:
    """Return whether Alembic compares a schema item with the models: its ``include_object``."""
    return not (isinstance(item, Column) and (item.table.name, name) in DATABASE_ONLY)


def create(database_url: str, message: str) -> str:
    """Generate a revision from the newest schema to the models; return its path."""
    now = status(database_url)
    if now.pending:
        raise MigrationFailed(f"the database is at {now.current or 'nothing'}, not at {now.newest}: migrate it first")
    settings = config(database_url)
    try:
        with database_faults():
            made = command.revision(settings, message, autogenerate=True, rev_id=f"{int(now.newest) + 1:04}")
    except (CommandError, OSError) as error:
        raise MigrationFailed(f"the revision could not be written: {error}") from error
    assert isinstance(made, Script)
    return made.path


def status(database_url: str) -> Status:
    """Return a database's status. Raises DatabaseUnavailable, and MigrationFailed if its revision is unknown."""
    scripts = _scripts(database_url)
    newest = scripts.get_current_head()
    assert newest is not None
    with closing(Database(database_url)) as database, database_faults(), database.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    revisions = list(scripts.walk_revisions())
    if current is not None and current not in {script.revision for script in revisions}:
        raise MigrationFailed(
            f"the database has the schema {current}, which is newer than this code ({newest}): it was migrated by a "
            "newer release. That release goes on with it, and this one does as long as it only runs; to go back, take "
            "the schema back with the newer release (migrate down) before it is rolled back"
        )
    pending = [script for script in revisions if current is None or script.revision > current]
    return Status(current, newest, pending[::-1])


def losses(database_url: str, revision: str) -> Sequence[tuple[str, int]]:
    """Return the tables and columns lost by a revision's downgrade, and how many rows have a value there.

    They are read from its statements. Raises DatabaseUnavailable.
    """
    statements = io.StringIO()
    offline = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": statements, "literal_binds": True}
    )
    with Operations.context(offline):
        _scripts(database_url).get_revision(revision).module.downgrade()
    with closing(Database(database_url)) as database, database.reading() as session:
        return [_loss(session, *match.groups()) for match in _DROPS.finditer(statements.getvalue())]


def _loss(session: Session, whole: str | None, name: str | None, column: str | None) -> tuple[str, int]:
    rows = select(func.count()).select_from(table(whole or str(name)))
    if whole:
        return f"table {whole}", session.scalars(rows).one()
    return f"column {name}.{column}", session.scalars(rows.where(text(f"{column} IS NOT NULL"))).one()


def _scripts(database_url: str) -> ScriptDirectory:
    return ScriptDirectory.from_config(config(database_url))


def _retry_while_locked(run: Callable[[], None]) -> None:
    """Run a migration, and retry it while its tables are locked; completed revisions are kept between attempts."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with database_faults():
                run()
                return
        except DatabaseUnavailable as error:
            if error.sqlstate != _NO_LOCK:
                raise
            if attempt == MAX_ATTEMPTS:
                raise MigrationFailed(
                    f"a table was in use each of {MAX_ATTEMPTS} times that it was asked for ({error}). Look for a long "
                    "transaction in pg_stat_activity; nothing is half done, the same command goes on from here"
                ) from error
            logger.warning("a table is in use, the migration tries again", extra={"attempt": attempt, "reason": error})
            time.sleep(RETRY_DELAY_SECONDS)  # a bounded wait for the table's users to finish
