"""Group commit: requests that arrive during a transaction wait for its end and share the next one.

So one commit serves many, in order of arrival. A request that arrives alone gets a transaction at once.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Generic, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from app import runtime
from app.errors import DatabaseUnavailable
from durable_sagas.database import current, take_callbacks

Payload = TypeVar("Payload")
Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Request(Generic[Payload, Value]):
    """A request in a group commit and its outcome."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.value: Value
        self.error: Exception | None = None
        """The exception to raise in the requesting thread."""
        self.taken = False
        """Whether a leader has included it in a transaction."""
        self.retry_alone = False
        """Whether it must be retried in a transaction of its own."""
        self.woken = threading.Event()
        self._context = copy_context()
        self._after_commit: list[Callable[[], object]] = []

    def run(
        self, session: Session, do: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call ``do`` in this request's context; its after-commit callbacks run in its own thread."""

        def act() -> Result:
            with current(session):
                return do(*args, **kwargs)

        try:
            return self._context.run(act)
        finally:
            self._after_commit += take_callbacks(session)

    def result(self) -> Value:
        """Run the after-commit callbacks and return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        for callback in self._after_commit:
            callback()
        return self.value


class GroupCommit(Generic[Payload, Value]):
    """Executes concurrent requests of several threads in one transaction.

    ``do`` is called with the session and the requests. It sets each request's ``value``, or its ``error`` if it is
    rejected. An exception that it raises may be one request's fault: then each is retried in a transaction of its
    own.
    """

    def __init__(self, do: Callable[[Session, Sequence[Request[Payload, Value]]], None]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._waiting: list[Request[Payload, Value]] = []
        self._has_leader = False

    def submit(self, payload: Payload) -> Value:
        """Execute a request together with concurrent ones; return its result after the commit."""
        request: Request[Payload, Value] = Request(payload)
        with self._lock:
            self._waiting.append(request)
            has_leader, self._has_leader = self._has_leader, True
        if has_leader:
            request.woken.wait()  # until it is executed, or is the next to lead
        if not request.taken:
            self._lead()
        return self.run_alone(payload) if request.retry_alone else request.result()

    def run_alone(self, payload: Payload) -> Value:
        """Execute a request in a transaction of its own: for one that may wait for locks and delay others."""
        request: Request[Payload, Value] = Request(payload)
        self._commit([request])
        return request.result()

    def _lead(self) -> None:
        with self._lock:
            requests, self._waiting = self._waiting, []
            for request in requests:
                request.taken = True
        try:
            self._commit(requests)
        finally:
            with self._lock:
                next_leader = self._waiting[:1]
                self._has_leader = bool(next_leader)
            for request in [*requests, *next_leader]:
                request.woken.set()

    def _commit(self, requests: Sequence[Request[Payload, Value]]) -> None:
        done = False
        try:
            with runtime.current().database.transaction() as session:
                self._do(session, requests)
                done = True
        except Exception as error:
            # a transaction that reached its commit may be committed, although the answer was lost
            retry_alone = len(requests) > 1 and not done and not isinstance(error, DatabaseUnavailable)
            for request in requests:
                request.retry_alone = retry_alone and request.error is None
                request.error = request.error or _own_exception(error)
        except BaseException:
            for request in requests:
                request.error = request.error or DatabaseUnavailable("the thread that stored it with others was ended")
            raise


def _own_exception(error: Exception) -> Exception:
    """Return an exception for one of several threads: a shared one would accumulate each thread's traceback."""
    return DatabaseUnavailable(str(error)) if isinstance(error, DatabaseUnavailable) else error
