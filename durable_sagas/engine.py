"""The state that the components of one binding share; created by ``Sagas``."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery, Task

from durable_sagas.admission import Admission
from durable_sagas.database import Database
from durable_sagas.errors import DefinitionError
from durable_sagas.log_context import log_context
from durable_sagas.messaging.batching import Batches
from durable_sagas.messaging.publisher import Publisher
from durable_sagas.options import Options
from durable_sagas.queue_progress import ServedQueues
from durable_sagas.signals import Signals
from durable_sagas.state_machine import StateMachine
from durable_sagas.tracer import Tracer

if TYPE_CHECKING:
    from durable_sagas.deliveries import Attempt
    from durable_sagas.registry import Driver

CeleryTask = Task[Any, Any]

Interceptor = Callable[["Attempt"], AbstractContextManager[None] | None]
"""Returns what surrounds the work of an attempt, outside any transaction, or None; see ``Sagas.intercept``."""


class Engine:
    """The application's Celery app and database, and what has been declared on one binding."""

    def __init__(
        self,
        celery: "Celery[Any]",
        database: Callable[[], Database],
        options: Callable[[], Options],
        tracer: Tracer,
        coordinator: str,
    ) -> None:
        self.celery = celery
        self._find_database = database
        self._find_options = options
        self.tracer = tracer
        self.coordinator = coordinator
        self.signals = Signals()
        self.publisher = Publisher(celery, lambda: self.database.now())
        self.batches = Batches()
        self.served = ServedQueues(lambda: self.database, lambda: self.options)
        self.signals.connect(self.served.note_settled)
        self.admission = Admission(lambda: self.database, lambda: self.options, lambda: celery.conf.task_always_eager)
        self.signals.connect(self.admission.note_started)
        self.state_machine = StateMachine(self.signals, lambda: self.options, self.publisher.queue_of)
        self.drivers: dict[str, Driver] = {}
        self.interceptors: list[Interceptor] = []
        self.task_names: list[str] = []

    @cached_property
    def database(self) -> Database:
        """The application's database, found at its first use."""
        return self._find_database()

    @cached_property
    def options(self) -> Options:
        """The application's options, found at their first use."""
        return self._find_options()

    def reset(self) -> None:
        """Find database and options anew at their next use."""
        for name in ("database", "options"):
            self.__dict__.pop(name, None)
        self.admission.reset()
        self.served.reset()

    def task(self, name: str, **options: Any) -> Callable[[Callable[..., Any]], CeleryTask]:
        """Register a task of the engine on the application's Celery app; other tasks are not affected by its options.

        A message of a worker that is killed before the acknowledgement is redelivered. If only a child of a pool is
        killed the message counts as failed, and the sweep re-drives the step: requeueing would repeat a message that
        kills its worker for ever.
        """
        # on the app, which several bindings may share
        names: set[str] = self.celery.__dict__.setdefault("durable_sagas_tasks", set())
        if name in names:
            raise DefinitionError(f"there is a task {name} on this Celery app already")
        names.add(name)
        self.task_names.append(name)
        # not shared: Celery would register it on every other app of the process, too
        settings = {"acks_late": True, "reject_on_worker_lost": False, "engine": self, "shared": False, **options}
        declare: Callable[[Callable[..., Any]], CeleryTask] = self.celery.task(
            name=name, base=_task_class(self.celery), **settings
        )
        return declare


def _task_class(celery: "Celery[Any]") -> type[CeleryTask]:
    """Return the class of the engine's tasks on an app: derived from the app's own."""

    class SagaTask(celery.Task):  # type: ignore[name-defined, misc]  # a class made by the app
        """A task whose log lines carry its task id and its saga's id."""

        abstract = True
        engine: Engine
        batches = celery.Task.__call__ is Task.__call__
        """Whether batches are possible: they run outside any task, without the context of the application's tasks."""
        Strategy = "durable_sagas.messaging.strategy:batching_strategy"

        @property
        def queue(self) -> str:
            """The queue for whatever sends the task by itself, such as Celery's scheduler or a retry."""
            return self.engine.publisher.queue_of(self.name)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run the task."""
            saga = {"saga_id": kwargs["saga_id"]} if "saga_id" in kwargs else {}
            # Celery's own __call__ gives the task a copy of its request, on which a step could not end its chain; only
            # its worker command avoids that. The application's own is called: it may provide a context
            call = self.run if self.batches and not self.request.called_directly else super().__call__
            with log_context(task_id=self.request.id, **saga):
                return call(*args, **kwargs)

    return SagaTask
