"""Two workers at once, each with several orders in one transaction, for the same books in crossed order."""

import threading
from collections.abc import Sequence
from contextlib import suppress

import pytest
from celery.canvas import Signature
from sqlalchemy import event, text

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.ids import new_id
from durable_sagas.messaging.batching import BatchedMessage
from tests.testkit.messages import Post
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, place

pytestmark = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)

ONE, OTHER = "item-001", "book-789"
RESERVE = {
    Pattern.ORCHESTRATION: "inventory.reserve_stock",
    Pattern.CHOREOGRAPHY: "inventory.reserve_on_order_created",
}
CROSSED = {
    "a book in each order": (([ONE], [OTHER]), ([OTHER], [ONE])),
    "both books in each order": (([ONE, OTHER], [OTHER, ONE]), ([OTHER, ONE], [ONE, OTHER])),
}


@pytest.mark.parametrize("wanted", CROSSED)
@pytest.mark.parametrize(
    "patterns",
    [
        (Pattern.ORCHESTRATION, Pattern.ORCHESTRATION),
        (Pattern.CHOREOGRAPHY, Pattern.CHOREOGRAPHY),
        (Pattern.ORCHESTRATION, Pattern.CHOREOGRAPHY),
    ],
    ids="-".join,
)
def test_batches_for_the_same_books_wait_for_each_other_and_never_both(
    wanted: str, patterns: tuple[Pattern, Pattern], here: Runtime, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagas.engine.batches, "_cooldown_until", {})
    batches = [to_reserve(post, pattern, baskets) for pattern, baskets in zip(patterns, CROSSED[wanted], strict=True)]
    let_each_lock_a_book_before_the_other_goes_on(here)

    do_at_once([threading.Thread(target=do_together, args=[batch]) for batch in batches])

    reserved = "SELECT count(*), sum(attempts) FROM saga_steps WHERE step = 'reserve_stock' AND status = 'completed'"
    with here.database.reading() as session:
        assert tuple(session.execute(text(reserved)).one()) == (4, 4)
    # the database sent neither away, to be done one by one
    assert [task for task in RESERVE.values() if not sagas.engine.batches.is_batchable(task)] == []
    post.deliver_all()
    with here.database.reading() as session:
        assert list(session.scalars(text("SELECT DISTINCT status FROM orders"))) == ["completed"]
    assert list(audit()) == []


def to_reserve(post: Post, pattern: Pattern, baskets: Sequence[list[str]]) -> list[Signature]:
    """Place an order for each of these baskets; returns the messages that have their stock reserved."""
    for books in baskets:
        place(NewOrder(tuple(Item(book, 1) for book in books), pattern))
        if pattern is Pattern.ORCHESTRATION:
            post.deliver("orders.create_order")
    return [post.take(RESERVE[pattern]) for _ in baskets]


def do_together(messages: Sequence[Signature]) -> None:
    wanted = [BatchedMessage(new_id(), message.kwargs) for message in messages]
    with sagas.engine.batches.batch_results(str(messages[0].task), wanted):
        for message, one in zip(messages, wanted, strict=True):
            message.apply(task_id=one.task_id)


def do_at_once(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def let_each_lock_a_book_before_the_other_goes_on(here: Runtime) -> None:
    """Have whoever has locked the first books wait for the other to have done so, if it can."""
    both = threading.Barrier(2, timeout=0.5)

    def wait(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM inventory" in statement and "FOR UPDATE" in statement:
            with suppress(threading.BrokenBarrierError):
                both.wait()

    event.listen(here.database.engine, "after_cursor_execute", wait)
