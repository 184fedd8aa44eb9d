"""Migrating a shop at work: one at a time, and without holding up those who order."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from alembic.command import downgrade
from sqlalchemy import Connection, Engine, create_engine, text

from app import migrations
from app.errors import MigrationFailed
from app.migrations import ADVISORY_LOCK_KEY, config, migrate, status
from app.settings import ROOT
from tests.testkit.processes import wait_for

PATIENCE_SECONDS = 60


def test_two_at_once_take_turns(empty: str) -> None:
    environment, processes = {**os.environ, "DATABASE_URL": empty}, []
    engine = create_engine(empty)
    with engine.connect() as first:
        first.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK_KEY})
        first.commit()
        for _ in range(2):
            command = [sys.executable, "-m", "app", "migrate"]
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        for process in processes:
            assert process.stderr is not None
            assert "another process is migrating" in process.stderr.readline()
        assert status(empty).current is None
    engine.dispose()  # the first has ended, and its lock with it

    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, errors) == (0, "")
    assert not status(empty).pending


@contextmanager
def migrating_beside(url: str, engine: Engine, statement: str) -> Iterator[Connection]:
    """Migrate beside somebody who holds what a statement locks until the block ends; yields another's connection."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    each_alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    with ThreadPoolExecutor() as pool, engine.connect() as holder, each_alone.connect() as other:
        holder.execute(text(statement))
        migration = pool.submit(migrate, url)
        wait_for("a lock to be waited for", lambda: bool(other.scalar(text(waiting))), PATIENCE_SECONDS)
        yield other
        holder.rollback()
        migration.result(PATIENCE_SECONDS)
    assert not status(url).pending


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(migrations, "RETRY_DELAY_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_migration_lets_others_pass_while_it_cannot_have_a_table(
    filled: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    downgrade(config(filled), "0006")
    with migrating_beside(filled, engine, "SELECT 1 FROM saga_instances") as shop:
        shop.execute(text("SET statement_timeout = '20s'"))
        shop.execute(text("SELECT 1 FROM saga_instances LIMIT 1"))  # stands behind the migration, and passes
        wait_for("a try", lambda: "a table is in use, the migration tries again" in caplog.messages)


@pytest.mark.usefixtures("impatient")
def test_a_table_that_is_never_free_is_said_and_what_was_done_is_kept(
    filled: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MAX_ATTEMPTS", 2)
    downgrade(config(filled), "0005")
    with engine.connect() as reader:
        reader.execute(text("SELECT 1 FROM saga_instances"))
        with pytest.raises(MigrationFailed, match=r"in use each of 2 times.*pg_stat_activity"):
            migrate(filled)
    assert status(filled).current == "0006"

    migrate(filled)

    assert not status(filled).pending


def test_an_index_is_made_while_others_write_and_after_an_attempt_that_was_broken_off(
    filled: str, engine: Engine
) -> None:
    downgrade(config(filled), "0007")
    with engine.begin() as connection:  # what a broken attempt leaves
        connection.execute(text("CREATE INDEX ix_order_requests_order_id ON order_requests (key)"))
    with migrating_beside(filled, engine, "UPDATE order_requests SET fingerprint = fingerprint") as shop:
        shop.execute(text("SET lock_timeout = '20s'"))
        shop.execute(text("INSERT INTO order_requests VALUES ('key:new', 'f', 'o', now())"))

    index = (
        "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass"
        " WHERE indexname = 'ix_order_requests_order_id'"
    )
    with engine.connect() as connection:
        made = connection.execute(text(index)).one()
    assert "(order_id)" in made.indexdef
    assert made.indisvalid
