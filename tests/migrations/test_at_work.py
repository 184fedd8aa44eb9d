"""Migrating a shop at work: one at a time, and without holding up those who order."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, text

from app import migrations
from app.errors import MigrationFailed
from app.migrations import ADVISORY_LOCK_KEY, config, migrate, status
from app.settings import ROOT
from tests.testkit.processes import wait_for

PATIENCE_SECONDS = 60


def migrating(database_url: str) -> "subprocess.Popen[str]":
    command, environment = [sys.executable, "-m", "app", "migrate"], {**os.environ, "DATABASE_URL": database_url}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def newest(database_url: str) -> bool:
    return not status(database_url).pending


def test_two_at_once_take_turns(empty: str) -> None:
    engine = create_engine(empty)
    with engine.connect() as first:
        first.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK_KEY})
        first.commit()
        processes = [migrating(empty) for _ in range(2)]
        for process in processes:
            assert process.stderr is not None
            assert "another process is migrating" in process.stderr.readline()
        assert status(empty).current is None
    engine.dispose()  # the first has ended, and its lock with it

    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, errors) == (0, "")
    assert newest(empty)


def waits_for_lock(engine: Engine) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        return bool(connection.scalar(text(waiting)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(migrations, "RETRY_DELAY_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_migration_lets_others_pass_while_it_cannot_have_a_table(
    filled: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    command.downgrade(config(filled), "0006")
    with ThreadPoolExecutor() as pool, engine.connect() as reader:
        reader.execute(text("SELECT 1 FROM saga_instances"))  # and goes on reading for long
        migration = pool.submit(migrate, filled)
        wait_for("a lock to be waited for", lambda: waits_for_lock(engine))
        with engine.connect() as shop:
            shop.execute(text("SET statement_timeout = '20s'"))
            shop.execute(text("SELECT 1 FROM saga_instances LIMIT 1"))  # stands behind the migration, and passes
        wait_for("a try", lambda: "a table is in use, the migration tries again" in caplog.messages)
        reader.rollback()
        migration.result(PATIENCE_SECONDS)

    assert newest(filled)


@pytest.mark.usefixtures("impatient")
def test_a_table_that_is_never_free_is_said_and_what_was_done_is_kept(
    filled: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MAX_ATTEMPTS", 2)
    command.downgrade(config(filled), "0005")
    with engine.connect() as reader:
        reader.execute(text("SELECT 1 FROM saga_instances"))
        with pytest.raises(MigrationFailed, match=r"in use each of 2 times.*pg_stat_activity"):
            migrate(filled)
    assert status(filled).current == "0006"

    migrate(filled)

    assert newest(filled)


def test_an_index_is_made_while_others_write_and_after_an_attempt_that_was_broken_off(
    filled: str, engine: Engine
) -> None:
    command.downgrade(config(filled), "0007")
    with engine.begin() as connection:  # what a broken attempt leaves
        connection.execute(text("CREATE INDEX ix_order_requests_order_id ON order_requests (key)"))
    with ThreadPoolExecutor() as pool, engine.connect() as writer:
        writer.execute(text("UPDATE order_requests SET fingerprint = fingerprint"))
        migration = pool.submit(migrate, filled)
        wait_for("a lock to be waited for", lambda: waits_for_lock(engine))
        with engine.connect() as another:
            another.execute(text("SET lock_timeout = '20s'"))
            another.execute(text("INSERT INTO order_requests VALUES ('key:new', 'f', 'o', now())"))
        writer.rollback()
        migration.result(PATIENCE_SECONDS)

    with engine.connect() as connection:
        made = connection.execute(
            text(
                "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass"
                " WHERE indexname = 'ix_order_requests_order_id'"
            )
        ).one()
    assert "(order_id)" in made.indexdef
    assert made.indisvalid
