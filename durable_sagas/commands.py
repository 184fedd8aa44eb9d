"""Declare what a service can execute as a step of a saga."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel

from durable_sagas.definition import Command, takes_reason
from durable_sagas.engine import CeleryTask, Engine
from durable_sagas.errors import DefinitionError, StepFailed
from durable_sagas.execution import Execution, delivery_to
from durable_sagas.messages import Event, Reply
from durable_sagas.orchestrator import CommandDeliveries, Orchestrator

Handler = Callable[..., Event | None]

MAX_NAME_LENGTH = 64
"""Of a command without its service; the log's column is as long."""


def command(name: str, handler: Handler, **options: Any) -> Command:
    """Return the command that a business function declares; see ``Sagas.command``. Raises DefinitionError."""
    service, _, short_name = name.partition(".")
    if not (service and 0 < len(short_name) <= MAX_NAME_LENGTH):
        raise DefinitionError(f"{name!r} must be <service>.<command>, a command of at most {MAX_NAME_LENGTH} letters")
    if options.get("lock_shared_rows") and options.get("call"):
        raise DefinitionError(f"{name} calls a gateway, so it is never batched, and needs no locks")
    for function in (handler, *options.values()):
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{name}: {function.__qualname__} is a coroutine function, which nothing awaits")
    if options.get("void") and not options.get("on_rejected"):
        raise DefinitionError(f"{name} can be voided, so it must declare an on_rejected")
    _check_arguments(name, {"handler": handler, **options})
    return Command(name, handler, _message_model(handler).model_validate, **options)


def declare_task(engine: Engine, orchestrator: Orchestrator, declared: Command) -> None:
    """Declare the Celery task that runs a command as a step of a saga."""
    execution = Execution(engine, CommandDeliveries(orchestrator, declared))

    # the log counts the attempts, not Celery; a step that failed for good is no error of the worker
    @engine.task(declared.name, bind=True, max_retries=None, throws=(StepFailed,))
    def run(task: CeleryTask, *, saga_id: str) -> Reply:
        try:
            reply = execution.run(task, delivery_to(task, engine, saga_id))
        except StepFailed:
            engine.publisher.send_errbacks(task.request)
            raise
        engine.publisher.send_next(task.request)
        return reply

    if declared.call is None:
        engine.batches.register(declared.name, execution.run_batch)


def _check_arguments(name: str, functions: Mapping[str, Any]) -> None:
    """Raise DefinitionError unless each function of a command can be called as the engine calls it."""
    expected = {
        "handler": 3 if functions.get("call") else 2,
        "call": 2,
        "void": 2,
        "on_rejected": 4 if functions.get("void") else 3,
        "on_manual_completion": 2,
        "lock_shared_rows": 2,
    }
    for option, count in expected.items():
        if function := functions.get(option):
            try:
                by_keyword = option in {"handler", "on_manual_completion"} and takes_reason(function)
                inspect.signature(function).bind(*[None] * count, **({"reason": None} if by_keyword else {}))
            except (TypeError, ValueError):
                shown = getattr(function, "__qualname__", repr(function))
                raise DefinitionError(f"{name}: {shown} is called with {count} positional arguments") from None


def _message_model(handler: Callable[..., Any]) -> type[BaseModel]:
    parameters = list(inspect.signature(handler).parameters)
    model = get_type_hints(handler).get(parameters[1]) if len(parameters) > 1 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{handler.__qualname__}: the second parameter must be annotated with a pydantic model")
    return model
