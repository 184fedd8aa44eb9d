"""Define sagas declaratively: pure rules, independent of Celery, SQLAlchemy and Flask."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from inspect import signature
from typing import Any

from durable_sagas.errors import DefinitionError
from durable_sagas.messages import Event


class SagaStatus(StrEnum):
    """The status of a saga."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    STUCK = "stuck"


FORWARD = frozenset({SagaStatus.PENDING, SagaStatus.RUNNING})
"""The statuses in which a saga's actions may take effect; in any other they are rejected."""

ACTIVE = FORWARD | {SagaStatus.COMPENSATING}
"""The statuses in which the sweep re-drives a saga."""

TERMINAL = frozenset({SagaStatus.COMPLETED, SagaStatus.COMPENSATED})
"""The statuses of a saga that has ended; ``stuck`` is not one of them."""

STARTED, COMPLETED = "STARTED", "COMPLETED"
COMPENSATION_STARTED, FAILED = "COMPENSATION_STARTED", "FAILED"
"""The states (milestones, seed 002) that every saga has; the others are named by its steps."""


class OperatorActionType(StrEnum):
    """The type of an operator's action on a saga."""

    CANCEL = "cancel"
    RESUME = "resume"
    SKIP = "skip"
    RESUME_STUCK = "resume_stuck"
    """Resumed with all others that were stuck on the same step."""


class CancelDecision(StrEnum):
    """The outcome of a request to cancel a saga."""

    PENDING = "pending"
    """Requested; the services have not decided yet."""
    COMPENSATED = "undone"  # the stored word
    """The saga is compensated, or being compensated."""
    TOO_LATE = "too_late"
    """The saga completed: it was past the point of no return when the request was handled."""


class Operation(StrEnum):
    """The operations of a step."""

    ACTION = "action"
    COMPENSATION = "compensation"


class StepStatus(StrEnum):
    """The status of one operation of one step in the saga log."""

    RUNNING = "running"
    """Taken by a transaction that has not ended; never committed."""
    RETRYING = "retrying"
    """Failed at least once; it will be retried."""
    CLOSING = "closing"
    """It can no longer take effect; what a gateway may have done is being voided."""
    COMPLETED = "completed"
    FAILED = "failed"
    """Failed for good. Of an action: it has no effect in the database, but may have one at a gateway."""
    SKIPPED = "skipped"
    """Of an action: blocked before it ran. Of a compensation: there was nothing to compensate."""
    BY_HAND = "by_hand"
    """Of a compensation: out of retries, and then reported as completed manually, outside the system."""


MAX_RETRY_DELAY_SECONDS = 120.0
"""The longest delay: a worker holds the message meanwhile, and Redis redelivers it after its visibility timeout."""


@dataclass(frozen=True)
class RetryPolicy:
    """Number of attempts, and the delay between them in seconds, at most ``MAX_RETRY_DELAY_SECONDS``."""

    attempts: int
    delay: float
    factor: float = 1.0
    limit: float = 30.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        usable = self.attempts >= 1 and self.delay >= 0 and self.factor >= 1 and 0 <= self.jitter <= 1
        if not usable or self.limit > MAX_RETRY_DELAY_SECONDS:
            raise DefinitionError(f"not a usable retry policy: {self}")

    @classmethod
    def exponential(cls, attempts: int, *, delay: float = 0.2, limit: float = 10.0) -> "RetryPolicy":
        """Double the delay after each attempt, with jitter of up to half of it, so that retries do not synchronize."""
        return cls(attempts, delay, factor=2.0, limit=limit, jitter=0.5)

    @classmethod
    def fixed(cls, attempts: int, *, delay: float = 0.2) -> "RetryPolicy":
        """Use the same delay after each attempt."""
        return cls(attempts, delay, limit=delay)

    def exhausted(self, attempts: int) -> bool:
        """Return whether no retry is left after this number of attempts."""
        return attempts >= self.attempts

    def wait(self, attempts: int, rng: Callable[[], float] = random.random) -> float:
        """Return the delay in seconds after this number of attempts."""
        return min(self.limit, self.delay * self.factor ** (attempts - 1)) * (1 - self.jitter * rng())


NO_RETRY = RetryPolicy(attempts=1, delay=0)
RETRY_UNTIL_STUCK = RetryPolicy.exponential(7)
"""The default policy of compensations, and one for commands past the pivot; once it is exhausted the saga is stuck."""


@cache
def takes_reason(function: Callable[..., Any]) -> bool:
    """Return whether a handler has a parameter ``reason``, for the reason of a compensation."""
    return "reason" in signature(function).parameters


@dataclass(frozen=True, eq=False)
class Command:
    """A command of a service: its handler, its gateway calls, and how the engine runs them.

    ``handler(session, message[, answer])`` runs inside the engine's transaction and returns the event to publish. A
    compensation's, and ``on_manual_completion``, may have a parameter ``reason``: why the saga is compensated, or None.
    ``call(message, key)`` and ``void(message, key)`` call a gateway, outside any transaction.
    """

    name: str
    handler: Callable[..., Event | None]
    message: Callable[[Mapping[str, Any]], Any]
    """Builds the handler's argument from a saga's payload."""
    call: Callable[[Any, str], Any] | None = None
    void: Callable[[Any, str], Any] | None = None
    on_rejected: Callable[..., Event] | None = None
    """``on_rejected(session, message, reason[, voided])`` records an action's permanent failure and returns the event.

    ``voided``, of a command with a gateway, is the result of ``void`` if it was called before, else None.
    """
    unconditional: bool = False
    """Of a compensation: run it even if its action never ran according to the log."""
    on_manual_completion: Callable[..., Event | None] | None = None
    """Of a compensation: called as ``(session, message)``, records its manual completion, and returns the event."""
    lock_shared_rows: Callable[[Any, Sequence[Any]], object] | None = None
    """Called as ``(session, messages)``, locks the rows that the handler will lock, in a fixed order: ``@command``."""
    retry: RetryPolicy | None = None

    def __call__(self, *arguments: Any) -> Event | None:
        """Call the handler directly, without the engine: for unit tests."""
        return self.handler(*arguments)

    @cached_property
    def service(self) -> str:
        """The service that owns the command, which is also its queue."""
        return self.name.partition(".")[0]

    @cached_property
    def short_name(self) -> str:
        """The command without its service."""
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Guard:
    """A precondition of a step: a sentence for people, the predicate, and the steps that it depends on."""

    says: str
    holds: Callable[["Progress"], bool]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Progress:
    """The input of a guard: the payload, and the steps that are completed according to the log."""

    payload: Mapping[str, Any]
    completed: frozenset[str]


def after(step: str) -> Guard:
    """Return a guard that requires another step to be completed."""
    return Guard(f"{step} must be completed first", lambda saga: step in saga.completed, frozenset({step}))


@dataclass(frozen=True)
class Step:
    """An action, its compensation, and how both are run.

    ``timeout`` is in seconds (default: the installation's). ``pivot`` marks the point of no return. ``milestone`` names
    the state of the saga once the action is completed.
    """

    action: Command
    compensation: Command | None = None
    retry: RetryPolicy | None = None
    compensation_retry: RetryPolicy = RETRY_UNTIL_STUCK
    timeout: float | None = None
    guard: Guard | None = None
    pivot: bool = False
    milestone: str | None = None

    def __post_init__(self) -> None:
        for command in (self.action, self.compensation or self.action):
            if not isinstance(command, Command):
                raise DefinitionError(f"{command!r} is not a command: declare it with @sagas.command")

    @cached_property
    def name(self) -> str:
        """The step's name: its action's, without the service."""
        return self.action.short_name

    @cached_property
    def policy(self) -> RetryPolicy:
        """The retry policy of the action: the step's own, else the command's, else a single attempt."""
        return self.retry or self.action.retry or NO_RETRY


class Saga:
    """A saga declared in one expression; one that could not be compensated is rejected at once.

    ``retired`` lists steps that new sagas no longer have but that sagas in flight may still contain.

    Raises DefinitionError.
    """

    def __init__(self, name: str, *steps: Step, retired: Sequence[Step] = ()) -> None:
        self.name = name
        self.steps = steps
        self.step_names = [step.name for step in steps]
        """The names of the steps, in order, as stored on a new saga's row."""
        self._by_name: dict[str, Step] = {}
        self._by_command: dict[str, tuple[Step, Operation]] = {}
        self._plans: dict[tuple[str, ...], Plan] = {}
        for step in (*retired, *steps):
            self._register(step)
        self._check()

    def _register(self, step: Step) -> None:
        if step.name in self._by_name:
            raise DefinitionError(f"saga {self.name} has two steps named {step.name}")
        if step.timeout is not None and step.timeout <= 0:
            raise DefinitionError(f"saga {self.name}: the timeout of {step.name} must be positive: {step.timeout}")
        self._by_name[step.name] = step
        uses = [(step.action, Operation.ACTION)]
        if step.compensation:
            uses.append((step.compensation, Operation.COMPENSATION))
        for command, operation in uses:
            if command.name in self._by_command:
                raise DefinitionError(f"saga {self.name}: {command.name} is used twice")
            self._by_command[command.name] = (step, operation)

    @cached_property
    def _messages(self) -> list[Callable[[Mapping[str, Any]], Any]]:
        """What builds the messages of the declared steps, each once."""
        commands = [command for step in self.steps for command in (step.action, step.compensation) if command]
        return list(dict.fromkeys(command.message for command in commands))

    def _check(self) -> None:
        if not self.steps:
            raise DefinitionError(f"saga {self.name} has no steps")
        pivots = [position for position, step in enumerate(self.steps) if step.pivot]
        if len(pivots) > 1:
            raise DefinitionError(f"saga {self.name} has more than one pivot")
        after_pivot = self.steps[pivots[0] + 1 :] if pivots else ()
        for step in self._by_name.values():
            if step in after_pivot:
                problem = "comes after the pivot, it can never be compensated" if step.compensation else None
            else:
                calls = step.action.call and not (step.compensation and step.compensation.call)
                problem = "calls a gateway, so its compensation must call it as well" if calls else None
            if problem:
                raise DefinitionError(f"saga {self.name}: {step.name} {problem}")
        for position, step in enumerate(self.steps):
            missing = set(step.guard.needs).difference(self.step_names[:position]) if step.guard else None
            if missing:
                raise DefinitionError(f"saga {self.name}: {step.name} waits for {missing}")

    @cached_property
    def outline(self) -> list[dict[str, Any]]:
        """The outline stored on a new saga's row, for processes of another version that lack some of its steps."""
        return [_outline(step) for step in self.steps]

    def plan(self, names: Sequence[str], outline: Sequence[Mapping[str, Any]] | None = None) -> "Plan":
        """Return the plan of a saga that started with these steps.

        Steps that are not declared here, but by another version of the code, are read from the saga's ``outline``.
        Raises UnknownStep if they are not in it either.
        """
        plan = self._plans.get(tuple(names))
        if plan is None:
            undeclared = [name for name in names if name not in self._by_name]
            outlined = {step.name: step for step in map(_outlined, outline or ()) if step.name in undeclared}
            for name in undeclared:
                if name not in outlined:
                    raise UnknownStep(f"step {name} is not registered in saga {self.name}")
            plan = Plan(tuple((self._by_name | outlined)[name] for name in names), frozenset(outlined))
            if not outlined:
                self._plans[tuple(names)] = plan
        return plan

    def validate(self, payload: Mapping[str, Any]) -> None:
        """Raise ValueError unless the messages of all steps can be built from a payload."""
        for build in self._messages:
            build(payload)

    def find(self, command: Command) -> tuple[Step, Operation] | None:
        """Return the step and the operation that a command implements in this saga, or None."""
        return self._by_command.get(command.name)


class UnknownStep(DefinitionError):
    """Raised when this process cannot run a step of a saga in flight; a process of another version may."""


def _outline(step: Step) -> dict[str, Any]:
    """Return what a process needs to drive and compensate a saga whose step it cannot run itself."""
    outline: dict[str, Any] = {"action": step.action.name}
    if step.compensation:
        outline["compensation"] = step.compensation.name
        if step.compensation.call or step.compensation.unconditional:
            outline["always"] = True
    if step.timeout is not None:
        outline["timeout"] = step.timeout
    if step.pivot:
        outline["pivot"] = True
    return outline


def _outlined(outline: Mapping[str, Any]) -> Step:
    """Return a step of another version, which can be sent to its service but not run here."""
    name = outline.get("compensation")
    return Step(
        Command(outline["action"], _elsewhere, _elsewhere),
        Command(name, _elsewhere, _elsewhere, unconditional=outline.get("always", False)) if name else None,
        timeout=outline.get("timeout"),
        pivot=outline.get("pivot", False),
    )


def _elsewhere(*_: Any) -> Any:
    raise UnknownStep("this step is declared by another version of the code")


@dataclass(frozen=True)
class Plan:
    """The steps that a saga started with; a deploy does not change them."""

    steps: tuple[Step, ...]
    undeclared: frozenset[str] = frozenset()
    """The names of the steps that only another version of the code can run."""

    @cached_property
    def positions(self) -> dict[str | None, int]:
        """The index of each step; ``None``, the current step of a saga that has run all of them, is after the last."""
        return {None: len(self.steps)} | {step.name: position for position, step in enumerate(self.steps)}

    def step(self, name: str) -> Step:
        """Return the step of this name."""
        return self.steps[self.positions[name]]

    def from_step(self, name: str) -> tuple[Step, ...]:
        """Return this step and those after it."""
        return self.steps[self.positions[name] :]

    def to_compensate(self, name: str) -> tuple[Step, ...]:
        """Return the steps to compensate when this one is current: it and earlier ones that have one, in reverse."""
        return tuple(step for step in reversed(self.steps[: self.positions[name] + 1]) if step.compensation)

    def past_pivot(self, name: str | None) -> bool:
        """Return whether the pivot is completed when this step is current."""
        return any(step.pivot for step in self.steps[: self.positions[name]])
