"""``Sagas`` binds the engine to an application's own Celery app and SQLAlchemy sessions."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from celery.signals import celeryd_init
from sqlalchemy import MetaData
from sqlalchemy.orm import Session, sessionmaker

from durable_sagas import commands, saga_log
from durable_sagas.choreography import Choreography
from durable_sagas.database import Base, Database
from durable_sagas.definition import Command, RetryPolicy, Saga, Step
from durable_sagas.engine import Engine, Interceptor
from durable_sagas.errors import DefinitionError
from durable_sagas.events import Events
from durable_sagas.messages import Event, EventType
from durable_sagas.messaging.publisher import service_of
from durable_sagas.operations import Operations
from durable_sagas.options import Options
from durable_sagas.orchestrator import OrchestratedSaga, Orchestrator
from durable_sagas.recovery import Recovery
from durable_sagas.registry import register
from durable_sagas.tracer import NoTracer, Tracer

Value = TypeVar("Value")


def _same(value: Value) -> Value:
    return value


class Sagas:
    """Sagas on an application's Celery app and database sessions.

    ``sessions`` is a ``sessionmaker``, or returns a ``Database`` when it is first needed. ``options`` may be a function
    as well. ``coordinator`` is the queue of the tasks ``<coordinator>.request_compensation`` and
    ``<coordinator>.sweep``, which belong to no service. The sweep drives every saga of the database: use one binding
    per database.

    The engine's tables are in ``metadata``. The sweep must run every second or so: schedule the task
    ``<coordinator>.sweep`` with ``celery beat``, or call ``sweep``. A worker that is started without ``-Q`` consumes
    the queues of all declared services as well.
    """

    metadata: MetaData = Base.metadata
    """The engine's tables, for ``create_all`` or the application's migrations."""

    def __init__(
        self,
        celery: "Celery[Any]",
        sessions: "sessionmaker[Session] | Callable[[], Database]",
        *,
        options: Options | Callable[[], Options] = Options(),  # noqa: B008  (it is immutable)
        tracer: Tracer | None = None,
        coordinator: str = "orchestrator",
    ) -> None:
        database = partial(_same, Database(sessions)) if isinstance(sessions, sessionmaker) else sessions
        current_options = partial(_same, options) if isinstance(options, Options) else options
        self.engine = Engine(celery, database, current_options, tracer or NoTracer(), coordinator)
        self.signals = self.engine.signals
        """The signals of these sagas and their steps."""
        self.saga_types = self.engine.drivers
        """The declared sagas of both patterns, by name."""
        self.events = Events(self.engine)
        self.orchestrator = Orchestrator(self.engine, self.events)
        self.recovery = Recovery(self.engine, self.events)
        self.operations = Operations(self.engine)
        self._commands: dict[str, Command] = {}
        self.cancel = self.operations.cancel
        self.resume = self.operations.resume
        self.skip = self.operations.skip
        self.resume_stuck = self.operations.resume_stuck
        self.resume_group = self.operations.resume_group
        self.count_stuck = self.operations.count_stuck
        self.saga_of = self.operations.saga_of
        self.sweep = self.recovery.sweep
        self.admission = self.engine.admission
        """Whether more sagas are to be started: call its ``check`` before."""
        self.report_progress = self.engine.served.report
        self.sweep_if_available = self.recovery.sweep_if_available
        self.last_swept = self.recovery.last_swept
        self.is_sweep_late = self.recovery.is_late
        self.on = self.events.on
        self.emit = self.events.emit
        self.subscribers = self.events.subscribers
        self.start_together = saga_log.inserting_together
        self.plan_of = self.orchestrator.plan_of
        self._declare_sweep()
        celeryd_init.connect(self._consume_queues, weak=False)

    @property
    def database(self) -> Database:
        """The application's database, as the engine uses it."""
        return self.engine.database

    def reset_binding(self) -> None:
        """Call the functions given as ``sessions`` and ``options`` again at the next use."""
        self.engine.reset()

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues of the declared services, and the coordinator's."""
        publisher = self.engine.publisher
        return tuple(dict.fromkeys(publisher.queue_of(name) for name in self.engine.task_names))

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the declared commands, reactions and subscribers, and the coordinator."""
        return tuple(dict.fromkeys(service_of(name) for name in self.engine.task_names))

    def command(
        self,
        name: str,
        *,
        call: Callable[[Any, str], Any] | None = None,
        void: Callable[[Any, str], Any] | None = None,
        on_rejected: Callable[..., Event] | None = None,
        unconditional: bool = False,
        on_manual_completion: Callable[..., Event | None] | None = None,
        lock_shared_rows: Callable[[Session, Sequence[Any]], object] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Callable[[commands.Handler], Command]:
        """Declare a business function as a command, and as the Celery task ``name`` that runs it as a step of a saga.

        The function is called as ``function(session, message)`` in the engine's transaction, and as
        ``function(session, message, answer)`` if the command has a ``call``. ``message`` is built from the saga's
        payload by the pydantic model that annotates it. The function returns the event to publish, or None; it raises
        StepRejected for a business rejection. The other parameters are those of ``Command``. The name is
        ``<service>.<command>``.

        Steps of several sagas may share one transaction if the command calls no gateway. So the function must not
        commit, roll back or change the transaction's settings, and should reject before it writes anything: a rejection
        after a write rolls back the other sagas' steps too, and all are then executed one by one.

        If the function locks rows that it shares with other sagas (the stock of a book, not the order itself),
        ``lock_shared_rows(session, messages)`` is called first when there are several messages, and locks all of these
        rows in a fixed order. Without it two such transactions may deadlock, which costs a second and a retry.

        Raises DefinitionError for a declaration that cannot work.
        """

        def declare(handler: commands.Handler) -> Command:
            declared = commands.command(
                name,
                handler,
                call=call,
                void=void,
                on_rejected=on_rejected,
                unconditional=unconditional,
                on_manual_completion=on_manual_completion,
                lock_shared_rows=lock_shared_rows,
                retry=retry,
            )
            if earlier := self._commands.get(declared.short_name):
                same = "is declared twice" if earlier.name == name else f"has the same short name as {earlier.name}"
                raise DefinitionError(f"{name} {same}")
            commands.declare_task(self.engine, self.orchestrator, declared)
            self._commands[declared.short_name] = declared
            return declared

        return declare

    def saga(self, name: str, *steps: Step, retired: Sequence[Step] = ()) -> OrchestratedSaga:
        """Declare an orchestrated saga; ``retired`` lists steps that only sagas in flight may still have.

        Raises DefinitionError if it could not be compensated, or if its name is taken.
        """
        saga = OrchestratedSaga(self.orchestrator, Saga(name, *steps, retired=retired))
        register(self.engine, saga)
        return saga

    def choreography(
        self, name: str, *, timed_out: EventType, cancel_requested: EventType, point_of_no_return: EventType
    ) -> Choreography:
        """Declare a choreographed saga; its reactions are registered with ``on``. See ``Choreography``.

        Raises DefinitionError if its name is taken.
        """
        choreography = Choreography(
            self.engine,
            self.events,
            name,
            timed_out=timed_out,
            cancel_requested=cancel_requested,
            point_of_no_return=point_of_no_return,
        )
        register(self.engine, choreography)
        return choreography

    def intercept(self, interceptor: Interceptor) -> Interceptor:
        """Install an interceptor of attempts, such as fault injection.

        ``interceptor(attempt)`` returns a context manager that surrounds the work of the attempt, outside any
        transaction, or None to leave it alone.
        """
        self.engine.interceptors.append(interceptor)
        return interceptor

    def service_of(self, step: str) -> str | None:
        """Return the service whose command a step is named after, or None if no declared command is."""
        command = self._commands.get(step)
        return command.service if command else None

    def calls_gateway(self, service: str) -> bool:
        """Return whether any command of a service calls a gateway, so that its workers mostly wait for I/O."""
        return any(command.call and command.service == service for command in self._commands.values())

    @property
    def sweep_task(self) -> str:
        """The name of the task that sweeps, to be scheduled every second or so."""
        return f"{self.engine.coordinator}.sweep"

    def _declare_sweep(self) -> None:
        @self.engine.task(self.sweep_task)
        def sweep() -> dict[str, int] | None:
            """Sweep once, unless another sweep has just run."""
            result = self.recovery.sweep_if_available(once_per_interval=True)
            return vars(result) if result else None

    def _consume_queues(self, instance: Any, **_: object) -> None:
        """Have a worker consume the declared queues as well, before its ``-Q`` and ``-X`` are applied."""
        if instance.app is self.engine.celery:
            self.engine.served.reports = True
            queues = instance.app.amqp.queues
            for name in self.queues:
                with suppress(KeyError):  # the application creates its queues itself, and this is none of them
                    queues.select_add(queues[name])
