"""``@command`` declares what a service can execute as a step of a saga."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app import runtime
from app.celery import app
from app.errors import DefinitionError, StepFailed
from app.messages import Event, Reply
from app.messaging import batching
from app.messaging.publisher import send_errbacks, send_next
from app.saga.definition import Command, RetryPolicy
from app.saga.execution import CeleryTask, Delivery, Execution
from app.saga.orchestrator import Orchestrated

_services: dict[str, str] = {}
_outside: set[str] = set()


def service_of(step: str) -> str | None:
    """Return the service whose command a step is named after, or None if no deployed code declares it."""
    return _services.get(step)


def calls_outside(service: str) -> bool:
    """Return whether any command of this service calls a gateway, so that its workers mostly wait for I/O."""
    return service in _outside


def command(
    name: str,
    *,
    call: Callable[[Any, str], Any] | None = None,
    void: Callable[[Any, str], Any] | None = None,
    on_rejected: Callable[..., Event] | None = None,
    unconditional: bool = False,
    on_manual_completion: Callable[..., Event | None] | None = None,
    lock_shared_rows: Callable[[Session, Sequence[Any]], object] | None = None,
    retry: RetryPolicy | None = None,
) -> Callable[[Callable[..., Event | None]], Command]:
    """Declare a business function as a command, and as the Celery task ``name`` that runs it as a step of a saga.

    The function is called as ``function(session, message)`` in the engine's transaction, and as
    ``function(session, message, answer)`` if the command has a ``call``. ``message`` is built from the saga's payload
    by the pydantic model that annotates it. The function returns the event to publish, or None; it raises StepRejected
    for a business rejection. The other parameters are those of ``Command``. The name is ``<service>.<command>``.

    Steps of several sagas may share one transaction if the command calls no gateway. So the function must not commit,
    roll back or change the transaction's settings, and should reject before it writes anything: a rejection after a
    write rolls back the other sagas' steps too, and all are then executed one by one.

    If the function locks rows that it shares with other sagas (the stock of a book, not the order itself),
    ``lock_shared_rows(session, messages)`` is called first when there are several messages, and locks all of these rows
    in a fixed order. Without it two such transactions may deadlock, which costs a second and a retry.

    Raises DefinitionError for a declaration that cannot work.
    """
    if lock_shared_rows and call:
        raise DefinitionError(f"{name} calls a gateway, so it is never done together, and needs no locks")

    def declare(handler: Callable[..., Event | None]) -> Command:
        declared = Command(
            name,
            handler,
            _message_model(handler).model_validate,
            call=call,
            void=void,
            on_rejected=on_rejected,
            unconditional=unconditional,
            on_manual_completion=on_manual_completion,
            lock_shared_rows=lock_shared_rows,
            retry=retry,
        )
        _services[declared.short_name] = declared.service
        if declared.call:
            _outside.add(declared.service)

        execution = Execution(Orchestrated(declared))

        # the log counts the attempts, not Celery; a step that failed for good is no error of the worker
        @app.task(name=name, bind=True, max_retries=None, throws=(StepFailed,))
        def run(task: CeleryTask, *, saga_id: str) -> Reply:
            try:
                reply = execution.run(task, Delivery(task.request.id, saga_id, runtime.current().now()))
            except StepFailed:
                send_errbacks(task.request)
                raise
            send_next(task.request)
            return reply

        if call is None:
            batching.register(name, execution.run_batch)
        return declared

    return declare


def _message_model(handler: Callable[..., Any]) -> type[BaseModel]:
    parameters = list(inspect.signature(handler).parameters)
    model = get_type_hints(handler).get(parameters[1]) if len(parameters) > 1 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{handler.__qualname__}: the second parameter must be annotated with a pydantic model")
    return model
