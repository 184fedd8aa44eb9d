"""Group commit: what comes during a transaction shares the next one, and nobody pays for another's fault."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from sqlalchemy.orm import Session

from app.database import after_commit, current_transaction
from app.database.group_commit import GroupCommit, Request
from app.errors import DatabaseUnavailable, Invalid
from app.runtime import Runtime
from tests.testkit.processes import wait_for

Do = Callable[[Session, Sequence[Request[str, str]]], None]
caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Crew:
    """Threads that want something of a group, whose first transaction lasts until all have come."""

    def __init__(self, do: Do, threads: dict[str, int] | None = None) -> None:
        self.threads = {} if threads is None else threads
        self.transactions: list[list[str]] = []
        self._do = do
        self._all_here = threading.Event()
        self.group = GroupCommit(self._counted)

    def want(self, *names: str) -> dict[str, Future[str]]:
        """Have the first begin and the others come while it is at work; returns what each gets."""
        with ThreadPoolExecutor(len(names)) as threads:
            asked = {}
            for number, name in enumerate(names):
                asked[name] = threads.submit(self._ask, name)
                if number == 0:
                    wait_for("the first to begin", lambda: bool(self.transactions))
                else:
                    wait_for("it to wait", lambda number=number: len(self.group._waiting) == number)  # type: ignore[misc]
            self._all_here.set()
        return asked

    def _ask(self, name: str) -> str:
        caller.set(name)
        self.threads[name] = threading.get_ident()
        return self.group.submit(name)

    def _counted(self, session: Session, requests: Sequence[Request[str, str]]) -> None:
        self.transactions.append([request.payload for request in requests])
        assert self._all_here.wait(60)
        self._do(session, requests)


def serve(session: Session, requests: Sequence[Request[str, str]]) -> None:
    for request in requests:
        request.value = request.payload.upper()


def test_what_comes_meanwhile_shares_the_next_transaction_in_the_order_in_which_it_came(here: Runtime) -> None:
    crew = Crew(serve)

    got = crew.want("a", "b", "c", "d")

    assert crew.transactions == [["a"], ["b", "c", "d"]]
    assert {name: asked.result() for name, asked in got.items()} == {name: name.upper() for name in "abcd"}
    assert crew.group.submit("e") == "E"  # and the next one need not wait


def test_one_that_is_refused_is_refused_alone_and_where_one_fails_each_has_a_transaction_of_its_own(
    here: Runtime,
) -> None:
    def fail(session: Session, requests: Sequence[Request[str, str]]) -> None:
        if any(request.payload == "c" for request in requests):
            raise LookupError("c")
        serve(session, requests)
        for request in requests:
            request.error = Invalid("not you") if request.payload == "d" else None

    crew = Crew(fail)
    got = crew.want("a", "b", "c", "d")

    assert (got["a"].result(), got["b"].result()) == ("A", "B")
    assert (type(got["c"].exception()), type(got["d"].exception())) == (LookupError, Invalid)
    assert sorted(crew.transactions) == [["a"], ["b"], ["b", "c", "d"], ["c"], ["d"]]


def test_what_the_database_did_not_do_is_not_done_again_and_each_has_an_exception_of_its_own(here: Runtime) -> None:
    def fail(session: Session, requests: Sequence[Request[str, str]]) -> None:
        serve(session, requests)
        if len(requests) > 1:
            raise DatabaseUnavailable("away")

    crew = Crew(fail)
    got = crew.want("a", "b", "c")

    assert got["a"].result() == "A"
    errors = [got[name].exception() for name in "bc"]
    assert [(type(error), str(error)) for error in errors] == [(DatabaseUnavailable, "away")] * 2
    assert errors[0] is not errors[1]
    assert crew.transactions == [["a"], ["b", "c"]]


def test_what_may_have_been_committed_is_not_done_again(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = here.database.transaction

    @contextmanager
    def transaction_whose_answer_is_lost() -> Iterator[Session]:
        with transaction() as session:
            yield session
        raise LookupError("whether it is committed")

    monkeypatch.setattr(here.database, "transaction", transaction_whose_answer_is_lost)
    crew = Crew(serve)
    got = crew.want("a", "b", "c")

    assert {type(got[name].exception()) for name in "abc"} == {LookupError}
    assert crew.transactions == [["a"], ["b", "c"]]


def test_who_is_interrupted_is_and_the_others_learn_that_it_was_not_done(here: Runtime) -> None:
    def be_interrupted(session: Session, requests: Sequence[Request[str, str]]) -> None:
        serve(session, requests)
        if len(requests) > 1:
            raise SystemExit

    got = Crew(be_interrupted).want("a", "b", "c")

    assert got["a"].result() == "A"
    assert type(got["b"].exception()) is SystemExit  # it led
    assert type(got["c"].exception()) is DatabaseUnavailable


def test_what_follows_the_commit_is_called_for_each_in_its_own_thread_and_context(here: Runtime) -> None:
    called: list[tuple[str, str, int]] = []
    threads: dict[str, int] = {}

    def follow(session: Session, name: str) -> str:
        assert current_transaction() is session
        context = caller.get()  # that of the thread that wants it, whoever leads
        after_commit(session, lambda: called.append((name, context, threading.get_ident())))
        return name.upper()

    def do(session: Session, requests: Sequence[Request[str, str]]) -> None:
        for request in requests:
            request.value = request.run(session, follow, session, request.payload)

    Crew(do, threads).want("a", "b", "c")

    assert sorted(called) == [(name, name, threads[name]) for name in "abc"]


def test_nothing_follows_what_was_rolled_back(here: Runtime) -> None:
    called: list[str] = []

    def do(session: Session, requests: Sequence[Request[str, str]]) -> None:
        for request in requests:
            request.run(session, after_commit, session, lambda: called.append("told"))
        raise LookupError

    with pytest.raises(LookupError):
        GroupCommit(do).submit("a")
    assert called == []
