"""Group commit: what comes while a transaction is under way waits for its end, and shares the next one.

So one commit serves many, and they are served in the order in which they came. What comes alone has a transaction of
its own, at once.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Generic, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from app import runtime
from app.database import acting_in, taken_from
from app.errors import DatabaseUnavailable

Wanted = TypeVar("Wanted")
Got = TypeVar("Got")
Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class Member(Generic[Wanted, Got]):
    """What somebody wants of a transaction, and what becomes of it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.got: Got
        self.error: Exception | None = None
        """What to raise to whoever wants it."""
        self.taken = False
        """Whether a leader has taken it into a transaction."""
        self.apart = False
        """Whether it has to be done again, in a transaction of its own."""
        self.woken = threading.Event()
        self._context = copy_context()
        self._after_commit: list[Callable[[], object]] = []

    def run(self, session: Session, do: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        """Call something for this member: in its context, and what is to follow the commit follows in its thread."""
        try:
            return self._context.run(acting_in(session, do), *args, **kwargs)
        finally:
            self._after_commit += taken_from(session)

    def result(self) -> Got:
        """Return what it got, once what follows the commit has been called; raises what is to be raised instead."""
        if self.error is not None:
            raise self.error
        for callback in self._after_commit:
            callback()
        return self.got


class GroupCommit(Generic[Wanted, Got]):
    """Does together, in one transaction, what several threads want at the same time.

    ``do`` is given the transaction and its members. It sets what each ``got``, or the ``error`` that one is refused
    with. What it raises may be the fault of one of them: then each has a transaction of its own.
    """

    def __init__(self, do: Callable[[Session, Sequence[Member[Wanted, Got]]], None]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._waiting: list[Member[Wanted, Got]] = []
        self._led = False

    def together(self, wanted: Wanted) -> Got:
        """Have something done with what others want now; returns once that is committed."""
        member: Member[Wanted, Got] = Member(wanted)
        with self._lock:
            self._waiting.append(member)
            others_lead, self._led = self._led, True
        if others_lead:
            member.woken.wait()  # until it is done, or the first of those that are not
        if not member.taken:
            self._lead()
        return self.alone(wanted) if member.apart else member.result()

    def alone(self, wanted: Wanted) -> Got:
        """Have something done in a transaction of its own: what may wait for others must not hold up everybody."""
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
            # what has come to its commit may have been committed, though the answer was lost
            apart = len(members) > 1 and not done and not isinstance(error, DatabaseUnavailable)
            for member in members:
                member.apart = apart and member.error is None
                member.error = member.error or _own(error)
        except BaseException:
            for member in members:
                member.error = member.error or DatabaseUnavailable("the thread that stored it with others was ended")
            raise


def _own(error: Exception) -> Exception:
    """Return what each of several threads may raise: to one that all raise each would add its traceback."""
    return DatabaseUnavailable(str(error)) if isinstance(error, DatabaseUnavailable) else error
