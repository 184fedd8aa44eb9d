"""Group commit: requests that arrive during a transaction wait for its end and share the next one.

So one commit serves many, in order of arrival. A request that arrives alone gets a transaction at once.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Generic, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from app import runtime
from app.database import acting_in, take_callbacks
from app.errors import DatabaseUnavailable

Wanted = TypeVar("Wanted")
Got = TypeVar("Got")
Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class Member(Generic[Wanted, Got]):
    """A request in a group commit and its outcome."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.got: Got
        self.error: Exception | None = None
        """The exception to raise in the requesting thread."""
        self.taken = False
        """Whether a leader has included it in a transaction."""
        self.apart = False
        """Whether it must be retried in a transaction of its own."""
        self.woken = threading.Event()
        self._context = copy_context()
        self._after_commit: list[Callable[[], object]] = []

    def run(self, session: Session, do: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        """Call ``do`` in this member's context; its after-commit callbacks run in this member's thread."""
        try:
            return self._context.run(acting_in(session, do), *args, **kwargs)
        finally:
            self._after_commit += take_callbacks(session)

    def result(self) -> Got:
        """Run the after-commit callbacks and return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        for callback in self._after_commit:
            callback()
        return self.got


class GroupCommit(Generic[Wanted, Got]):
    """Executes concurrent requests of several threads in one transaction.

    ``do`` is called with the session and the members. It sets each member's ``got``, or its ``error`` if that request
    is rejected. An exception that it raises may be one member's fault: then each is retried in a transaction of its
    own.
    """

    def __init__(self, do: Callable[[Session, Sequence[Member[Wanted, Got]]], None]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._waiting: list[Member[Wanted, Got]] = []
        self._led = False

    def together(self, wanted: Wanted) -> Got:
        """Execute a request together with concurrent ones; return its result after the commit."""
        member: Member[Wanted, Got] = Member(wanted)
        with self._lock:
            self._waiting.append(member)
            others_lead, self._led = self._led, True
        if others_lead:
            member.woken.wait()  # until it is done, or is first in line to lead
        if not member.taken:
            self._lead()
        return self.alone(wanted) if member.apart else member.result()

    def alone(self, wanted: Wanted) -> Got:
        """Execute a request in a transaction of its own: for one that may wait for locks and delay others."""
        member: Member[Wanted, Got] = Member(wanted)
        self._commit([member])
        return member.result()

    def _lead(self) -> None:
        with self._lock:
            members, self._waiting = self._waiting, []
            for member in members:
                member.taken = True
        try:
            self._commit(members)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._led = bool(following)
            for member in [*members, *following]:
                member.woken.set()

    def _commit(self, members: Sequence[Member[Wanted, Got]]) -> None:
        done = False
        try:
            with runtime.current().database.transaction() as session:
                self._do(session, members)
                done = True
        except Exception as error:
            # a transaction that reached its commit may be committed, although the answer was lost
            apart = len(members) > 1 and not done and not isinstance(error, DatabaseUnavailable)
            for member in members:
                member.apart = apart and member.error is None
                member.error = member.error or _own(error)
        except BaseException:
            for member in members:
                member.error = member.error or DatabaseUnavailable("the thread that stored it with others was ended")
            raise


def _own(error: Exception) -> Exception:
    """Return an exception for one of several threads: a shared one would accumulate each thread's traceback."""
    return DatabaseUnavailable(str(error)) if isinstance(error, DatabaseUnavailable) else error
