"""``python -m app saga``: inspect and operate one saga, or all that are stuck on one step."""

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click

from app import runtime
from app.celery import app
from app.errors import Conflict, NotFound
from app.observability import tracing
from app.observability.metrics import registry
from app.sagas import sagas
from cli.environment import load_runtime
from cli.output import table, write_line
from durable_sagas.definition import ACTIVE, CancelDecision, SagaStatus
from durable_sagas.ids import is_uuid
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import SagaInstance
from workflows.read_side import queries
from workflows.read_side.saga_history import attempts

ID = click.argument("identifier", metavar="ID")


def _name(_context: click.Context, _parameter: click.Parameter, by: str) -> str:
    if not 1 <= len(by.strip()) <= 200:
        raise click.BadParameter("must be a name of 1 to 200 characters")
    return by.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "command line"  # the user id has no name, as in a container


BY = click.option(
    "--by", default=_user, show_default="the system's user", callback=_name, help="Who does this; it is kept."
)


@click.group()
def saga() -> None:
    """Show, cancel and resume sagas, or skip a compensation. ID is the saga's, or its order's."""


@saga.command("list")
@click.option("--status", help="Only these: pending, running, completed, compensating, compensated or stuck.")
@click.option("--step", help="Only those that are at this step, or stuck on it.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def list_sagas(status: str | None, step: str | None, limit: int) -> None:
    """List sagas, newest first."""
    _open()
    if status and status not in set(SagaStatus):
        raise click.BadParameter(f"must be one of {', '.join(SagaStatus)}", param_hint="--status")
    page = queries.sagas(status=SagaStatus(status) if status else None, step=step, limit=limit)
    for row in page.rows:
        where = f"{row.saga_type:<20}{row.status:<14}{row.current_step or '':<18}"
        write_line(f"{row.id}  {where}{row.failure_reason or ''}")
    if page.more:
        write_line(f"… and more than {limit}: see --limit")


@saga.command()
@ID
def show(identifier: str) -> None:
    """Show a saga's status, and every attempt at every step."""
    with _refusals():
        view = queries.saga(_saga_id(identifier))
    row = view.saga
    write_line(f"saga    {row.id} · {row.saga_type}")
    write_line(f"order   {row.aggregate_id}")
    write_line(f"status  {row.status}{f' at {row.current_step}' if row.current_step else ''}")
    write_line(f"states  {' → '.join(reached['state'] for reached in row.state_history)}")
    if row.error:
        write_line(f"compensated because  {row.error}")
    if row.cancel_requested_at:
        write_line(f"cancel requested  {row.cancel_requested_at:%Y-%m-%d %H:%M:%S}: {row.cancel_reason}")
    if row.stuck_reason:
        write_line(f"stuck on  {row.stuck_reason}")
    for line in table(attempts(view.operations)):
        write_line(f"  {line}")
    for act in view.operator_actions:
        note = f": {act.note}" if act.note else ""
        write_line(f"{act.at:%Y-%m-%d %H:%M:%S}  {act.by}: {act.act}{note}")


@saga.command()
@ID
@BY
def cancel(identifier: str, by: str) -> None:
    """Request that a saga be compensated; ``show`` later has the decision: too late past the point of no return."""
    _ask(identifier, partial(sagas.cancel, by=by))


@saga.command()
@click.argument("identifier", metavar="[ID]", required=False)
@click.option("--step", help="Resume all sagas that are stuck on this step.")
@BY
def resume(identifier: str | None, step: str | None, by: str) -> None:
    """Resume a stuck saga at its current step, or all that are stuck on one step."""
    if (identifier is None) == (step is None):
        raise click.UsageError("say either which saga (ID) or which step (--step)")
    if identifier:
        _ask(identifier, partial(sagas.resume, by=by))
    elif step:
        _resume_all(step, by)


@saga.command()
@ID
@click.option("--by", required=True, callback=_name, help="Who confirms that the compensation was resolved manually.")
@click.option("--note", help="What was done, for the history.")
@click.option("--step", help="The step that was resolved manually, if several are stuck.")
def skip(identifier: str, by: str, note: str | None, step: str | None) -> None:
    """Skip the compensation on which a saga is stuck, because it was resolved manually outside the system."""
    statement = ManualCompletion(by=by, note=note, step=step)
    _ask(identifier, lambda saga_id: sagas.skip(saga_id, statement))


def _ask(identifier: str, operation: Callable[[str], SagaInstance]) -> None:
    with _refusals():
        saga = operation(_saga_id(identifier))
    _wake_embedded(saga.id)
    pending = saga.cancel_decision == CancelDecision.PENDING
    write_line(f"saga {saga.id} is {saga.status}{', its cancellation is requested' if pending else ''}")


def _resume_all(step: str, by: str) -> None:
    _open()
    after, resumed, refused = None, 0, 0
    while True:
        done = sagas.resume_stuck(step, by=by, after=after)
        for saga_id in done.resumed:
            _wake_embedded(saga_id)
        for saga_id, reason in done.refused.items():
            write_line(f"saga {saga_id} was not resumed: {reason}", err=True)
        resumed, refused, after = resumed + len(done.resumed), refused + len(done.refused), done.next_after
        if after is None:
            break
    write_line(f"{resumed} resumed, {refused} not")
    sys.exit(1 if refused else 0)


def _wake_embedded(saga_id: str) -> None:
    """Make the saga due for the next sweep if the stack is embedded: messages of this process reach no worker then."""
    current = runtime.current()
    if current.settings.embedded:
        with current.database.transaction() as session:
            saga = session.get_one(SagaInstance, saga_id, with_for_update=True)
            if saga.status in ACTIVE:
                saga.wake_at, saga.queue = current.now(), None


def _saga_id(identifier: str) -> str:
    _open()
    with runtime.current().database.reading() as session:
        found = session.get(SagaInstance, identifier) if is_uuid(identifier) else None
    if found:
        return found.id
    try:
        return sagas.saga_of(identifier)
    except NotFound:
        raise NotFound(f"there is no saga, and no order, {identifier}") from None


def _open() -> None:
    current = load_runtime()
    tracing.start(current.settings, "operator")
    app.set_default()
    if current.settings.prometheus_multiproc_dir:
        registry.start()  # operations run in this process; their counts must outlive it


@contextmanager
def _refusals() -> Iterator[None]:
    """Print the error and exit: with 2 on NotFound, with 1 on a Conflict with the present state."""
    try:
        yield
    except (NotFound, Conflict) as error:
        write_line(error.detail, err=True)
        sys.exit(2 if isinstance(error, NotFound) else 1)
