"""``@command``: how a service says what it can be asked to do."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_type_hints

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.celery import app
from app.errors import DefinitionError, StepFailed
from app.messages import Event, Reply
from app.messaging import batching
from app.messaging.publisher import send_errbacks, send_next
from app.saga import orchestrator
from app.saga.attempts import CeleryTask
from app.saga.definition import Command, RetryPolicy
from app.saga.execution import StepRun
from app.saga.first_attempts import make_together

_services: dict[str, str] = {}
_outside: set[str] = set()


def service_of(step: str) -> str | None:
    """Return the service whose command gives a step its name, or None if no deployed code declares it."""
    return _services.get(step)


def calls_outside(service: str) -> bool:
    """Tell whether a command of this service calls a gateway: then its workers spend their time waiting."""
    return service in _outside


def command(
    name: str,
    *,
    call: Callable[[Any, str], Any] | None = None,
    void: Callable[[Any, str], Any] | None = None,
    refused: Callable[..., Event] | None = None,
    always: bool = False,
    by_hand: Callable[..., Event | None] | None = None,
    locks: Callable[[Session, Sequence[Any]], object] | None = None,
    retry: RetryPolicy | None = None,
) -> Callable[[Callable[..., Event | None]], Command]:
    """Make a business function a command, and the Celery task ``name`` that runs it as a step of a saga.

    The function is called as ``function(session, message)`` in the engine's transaction, and as
    ``function(session, message, answer)`` if the command has a ``call``. ``message`` is made of the saga's payload by
    the pydantic model that annotates it. It returns the event that it makes true, or None; it raises StepRejected for
    a business no. The other parameters are those of ``Command``. The name is ``<service>.<command>``.

    The steps of several sagas may be done in one transaction, if the command calls no gateway. So the function leaves
    commits, rollbacks and the transaction's settings alone, and had best say no before it has written anything: what it
    has written takes the others' steps back with it, and all are done one by one. Where it locks rows that it shares
    with other sagas (the stock of a book, not the order itself), ``locks(session, messages)`` is called before, if
    there are several, and locks all of these in one order. Without it two such transactions may wait for each other,
    which costs them a second and a repetition. Raises DefinitionError for what could never work.
    """
    if locks and call:
        raise DefinitionError(f"{name} calls a gateway, so it is never done together, and needs no locks")

    def declare(handler: Callable[..., Event | None]) -> Command:
        declared = Command(
            name,
            handler,
            _message_model(handler).model_validate,
            call=call,
            void=void,
            refused=refused,
            always=always,
            by_hand=by_hand,
            locks=locks,
            retry=retry,
        )
        _services[declared.short_name] = declared.service
        if declared.call:
            _outside.add(declared.service)

        # the log counts the attempts, not Celery; a step that was given up is no error of the worker
        @app.task(name=name, bind=True, max_retries=None, throws=(StepFailed,))
        def run(task: CeleryTask, *, saga_id: str) -> Reply:
            try:
                reply: Reply | None = batching.outcome_of(task.request.id)
                reply = reply or StepRun(task, orchestrator.definition, declared, saga_id).run()
            except StepFailed:
                send_errbacks(task.request)
                raise
            send_next(task.request)
            return reply

        if call is None:
            batching.register(name, partial(make_together, orchestrator.definition, declared))
        return declared

    return declare


def _message_model(handler: Callable[..., Any]) -> type[BaseModel]:
    parameters = list(inspect.signature(handler).parameters)
    model = get_type_hints(handler).get(parameters[1]) if len(parameters) > 1 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{handler.__qualname__}: the second parameter must be annotated with a pydantic model")
    return model
