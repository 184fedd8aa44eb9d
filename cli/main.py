"""The commands of ``python -m app``."""

import sys
from typing import NoReturn

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

from app import migrations
from app.errors import DatabaseUnavailable, MigrationFailed
from app.observability.logging import configure_logging
from cli.environment import USAGE_ERROR, load_runtime
from cli.migrate import migrate
from cli.output import write_line
from cli.prune import prune
from cli.saga import saga
from cli.worker import worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """CloudMart: durable sagas on plain Celery, shown on an online bookstore.

    The database, the broker and the rest come from the environment; docs/reference/settings.md lists the variables.
    Without any, everything runs in this process, on SQLite under var/.
    """


@commands.command()
def run() -> None:
    """Migrate, seed, and serve web, worker and scheduler in this process until Ctrl-C."""
    from cli.serve import serve
    from workflows.seed_data import seed

    runtime = load_runtime(log_to=sys.stdout)
    migrations.migrate(runtime.settings.database_url)
    seed()
    serve(runtime)


@commands.command()
def demo() -> None:
    """Run every scenario of the seeds in every saga type; exit 1 if one does not end as its seed specifies."""
    from cli.demo import run_demo

    configure_logging("CRITICAL")  # the printed timelines contain everything, in order
    sys.exit(0 if run_demo() else 1)


@commands.command()
def audit() -> None:
    """Check every invariant on the database; exit 1 naming each violation."""
    from workflows.operations.audit import CHECKS
    from workflows.operations.audit import audit as find_violations

    load_runtime()
    found: set[str] = set()
    for violation in find_violations():
        found.add(violation.check)
        write_line(f"VIOLATED  {violation}")
    for check in CHECKS:
        if check not in found:
            click.echo(f"holds     {check}")
    sys.exit(1 if found else 0)


@commands.command("seed")
def seed_command() -> None:
    """Write the initial books and customers if they are missing."""
    from workflows.seed_data import seed

    load_runtime()
    click.echo(f"{seed()} rows written.")


@commands.command()
def password() -> None:
    """Make a new operator password, print it once, and end every operator's session."""
    from workflows.operations import operator_password

    load_runtime()
    if operator_password.is_configured():
        click.echo("OPERATOR_PASSWORD is set, and it is what operators log in with: change it there.", err=True)
        sys.exit(USAGE_ERROR)
    click.echo(f"Operators log in with the password {operator_password.generate()}")


commands.add_command(migrate)
commands.add_command(prune)
commands.add_command(saga)
commands.add_command(worker)


def main() -> None:
    """Run a command and exit with its code: 2 for invalid input, 1 if it failed."""
    try:
        commands.main(prog_name="python -m app")
    except UnicodeEncodeError:
        click.echo("An argument is not UTF-8.", err=True)
        sys.exit(2)
    except DatabaseUnavailable as error:
        _fail(f"The database does not answer: {error}")
    except MigrationFailed as error:
        _fail(f"The schema was not changed: {error}.")
    except (OperationalError, ProgrammingError) as error:  # a missing table, on SQLite and on PostgreSQL
        _fail(f"The database has another schema, bring it up with `migrate`: {error.orig}")


def _fail(message: str) -> NoReturn:
    write_line(message, err=True)
    sys.exit(1)
