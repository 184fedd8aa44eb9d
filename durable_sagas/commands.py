"""Declare what a service can execute as a step of a saga."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic import BaseModel

from durable_sagas.definition import Command
from durable_sagas.deliveries import Delivery
from durable_sagas.engine import CeleryTask, Engine
from durable_sagas.errors import DefinitionError, StepFailed
from durable_sagas.execution import Execution
from durable_sagas.messages import Event, Reply
from durable_sagas.orchestrator import CommandDeliveries, Orchestrator

Handler = Callable[..., Event | None]


def command(name: str, handler: Handler, **options: Any) -> Command:
    """Return the command that a business function declares; see ``Sagas.command``. Raises DefinitionError."""
    if not name.partition(".")[2]:
        raise DefinitionError(f"{name!r} must be <service>.<command>")
    if options.get("lock_shared_rows") and options.get("call"):
        raise DefinitionError(f"{name} calls a gateway, so it is never batched, and needs no locks")
    for function in (handler, *options.values()):
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{name}: {function.__qualname__} is a coroutine function, which nothing awaits")
    return Command(name, handler, _message_model(handler).model_validate, **options)


def declare_task(engine: Engine, orchestrator: Orchestrator, declared: Command) -> None:
    """Declare the Celery task that runs a command as a step of a saga."""
    execution = Execution(engine, CommandDeliveries(orchestrator, declared))

    # the log counts the attempts, not Celery; a step that failed for good is no error of the worker
    @engine.task(declared.name, bind=True, max_retries=None, throws=(StepFailed,))
    def run(task: CeleryTask, *, saga_id: str) -> Reply:
        try:
            reply = execution.run(task, Delivery(task.request.id, saga_id, engine.database.now()))
        except StepFailed:
            engine.publisher.send_errbacks(task.request)
            raise
        engine.publisher.send_next(task.request)
        return reply

    if declared.call is None:
        engine.batches.register(declared.name, execution.run_batch)


def _message_model(handler: Callable[..., Any]) -> type[BaseModel]:
    parameters = list(inspect.signature(handler).parameters)
    model = get_type_hints(handler).get(parameters[1]) if len(parameters) > 1 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{handler.__qualname__}: the second parameter must be annotated with a pydantic model")
    return model
