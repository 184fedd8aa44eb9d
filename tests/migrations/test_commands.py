"""``python -m app migrate`` and make's names for it, as people type them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text

from app import migrations
from app.errors import MigrationFailed
from app.migrations import migrate
from app.settings import ROOT
from cli import environment
from cli.main import commands

*_, BEFORE, NEWEST = sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("0*.py"))


@pytest.fixture
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr(environment, "configure_logging", lambda *_: None)  # it would outlive the test
    return url


def execute(database_url: str, statement: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["migrate", *arguments])


def make(*arguments: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = ["make", "--no-print-directory", "-o", ".venv/installed", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)


def test_up_status_and_down_by_make(database_url: str) -> None:
    up, down, where = (make(f"migrate-{name}") for name in ("up", "down", "status"))

    assert (up.returncode, up.stdout.splitlines()[-1]) == (0, "The database has the newest schema.")
    assert f"{NEWEST}  " in up.stdout
    assert (down.returncode, down.stdout.splitlines()[-1]) == (0, f"{NEWEST} was taken back.")
    assert where.returncode == 0
    assert where.stdout.splitlines()[:2] == [f"database  {BEFORE}", f"newest    {NEWEST}"]
    assert where.stdout.splitlines()[2].startswith(f"pending   {NEWEST}  ")


def test_migrate_alone_is_up_and_down_says_what_goes_and_wants_a_yes(database_url: str) -> None:
    assert isinstance(typed("down", "--yes").exception, MigrationFailed)  # there is nothing below an empty database
    assert typed("status").output.startswith("database  empty\n")
    assert typed().exit_code == 0
    assert typed("status").output.endswith("Nothing is pending.\n")

    refused = typed("down")  # nobody can be asked
    assert refused.exit_code == 2
    assert "with --yes" in refused.output
    assert f"{NEWEST} takes with it: " in refused.output
    assert migrations.status(database_url).current == NEWEST
    assert typed("down", "--yes").exit_code == 0
    assert migrations.status(database_url).current == BEFORE


def test_a_database_that_is_newer_than_the_code_is_named(database_url: str) -> None:
    migrate(database_url)
    execute(database_url, "UPDATE alembic_version SET version_num = '0999'")

    for command in ("up", "down", "status"):
        assert isinstance(typed(command).exception, MigrationFailed)
    ended = subprocess.run(
        [sys.executable, "-m", "app", "migrate"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert ended.returncode == 1
    assert "the schema 0999, which is newer than this code" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_create_writes_a_revision_in_the_house_form_for_a_database_that_has_all_others(
    database_url: str, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"  # a copy: other tests, and their processes, migrate by the code itself
    for name in ("durable_sagas", "app", "cli", "migrations", "tasks", "web", "workflows"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    revision = checkout / f"migrations/versions/{int(NEWEST) + 1:04}_add_new_table.py"
    refused = make("migrate-create", "NAME=add_new_table", folder=checkout)
    assert refused.returncode == 2  # make's own
    assert f"the database is at nothing, not at {NEWEST}" in refused.stderr
    assert not revision.exists()
    migrate(database_url)
    execute(database_url, "DROP TABLE notifications")

    made = make("migrate-create", "NAME=add_new_table", folder=checkout)

    assert made.returncode == 0, made.stderr
    written = revision.read_text().replace("'", '"')
    assert written.startswith(f'"""Add new table\n\nRevision: {revision.name[:4]}, after {NEWEST}\n"""\n')
    assert f'revision = "{revision.name[:4]}"\n' in written
    assert 'op.create_table("notifications"' in written
    assert "UtcDateTime" not in written


def test_create_refuses_a_name_that_no_file_could_have(database_url: str) -> None:
    for name in ([], [""], ["Add new table"], ["../elsewhere"], ["a" * 41], ["a__b"], ["1st"]):
        refused = typed("create", *name)
        assert (refused.exit_code, "NAME=add_new_table" in refused.output) == (2, True), name
    before = sorted(ROOT.glob("*.py"))

    ended = make("migrate-create", "NAME='; touch $(id).py; '")  # make hands a name on as it is

    assert (ended.returncode, "NAME=add_new_table" in ended.stderr) == (2, True)
    assert sorted(ROOT.glob("*.py")) == before
