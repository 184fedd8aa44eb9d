"""``python -m app migrate``: upgrade or downgrade the database schema, show its revision, create a new one."""

import re
import sys

import click

from app import migrations
from app.errors import MigrationFailed
from cli.environment import USAGE_ERROR, load_runtime

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME_LENGTH = 40
"""Alembic truncates longer names in file names."""


@click.group(invoke_without_command=True)
@click.pass_context
def migrate(context: click.Context) -> None:
    """Upgrade the database to the newest schema; or downgrade it, or show its revision."""
    if context.invoked_subcommand is None:
        context.invoke(up)


@migrate.command()
def up() -> None:
    """Upgrade the database to the newest schema, as `migrate` alone does."""
    database_url = load_runtime().settings.database_url
    before = migrations.status(database_url)
    migrations.migrate(database_url)
    for script in before.pending:
        click.echo(f"{script.revision}  {script.doc}")
    click.echo("The database has the newest schema.")


@migrate.command()
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
def down(yes: bool) -> None:
    """Downgrade the database by one revision, deleting the data that only that revision can hold."""
    database_url = load_runtime().settings.database_url
    now = migrations.status(database_url)
    if now.current is None:
        raise MigrationFailed("the database is empty: there is nothing to take back")
    for what, rows in migrations.losses(database_url, now.current):
        click.echo(f"{now.current} takes with it: {what}, {rows} row{'' if rows == 1 else 's'}")
    if not yes and not sys.stdin.isatty():
        click.echo("Nobody can be asked here: with --yes it is taken back.", err=True)
        sys.exit(USAGE_ERROR)
    if not yes and not click.confirm(f"Take back {now.current}?"):
        click.echo("Nothing was changed.")
        return
    click.echo(f"{migrations.step_back(database_url)} was taken back.")


@migrate.command("status")
def show_status() -> None:
    """Show which schema the database has, which one is the newest, and what lies between."""
    now = migrations.status(load_runtime().settings.database_url)
    click.echo(f"database  {now.current or 'empty'}")
    click.echo(f"newest    {now.newest}")
    for script in now.pending:
        click.echo(f"pending   {script.revision}  {script.doc}")
    if not now.pending:
        click.echo("Nothing is pending.")


@migrate.command()
@click.argument("name", required=False)
def create(name: str | None) -> None:
    """Write a new revision NAME from what the models declare and the database does not have."""
    if not name or not NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        problem = f"{name!r} cannot be a revision's name" if name else "the new revision needs a name"
        click.echo(
            f"{problem}: up to {MAX_NAME_LENGTH} small letters, digits and single underscores, a letter first, "
            "such as NAME=add_new_table",
            err=True,
        )
        sys.exit(USAGE_ERROR)
    path = migrations.create(load_runtime().settings.database_url, name.replace("_", " ").capitalize())
    click.echo(f"{path} is written: read it, say in its first line what it is for, and see what it does to a shop")
    click.echo("at work (docs/how-to/migrate.md).")
