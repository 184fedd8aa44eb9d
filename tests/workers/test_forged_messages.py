"""Whatever lies in the queues: it is logged and dropped, the workers live on, and no order is the worse for it."""

from collections import Counter
from pathlib import Path

import pytest
from kombu import Connection, Queue

from tests.testkit import forged
from tests.testkit.forged import Forged
from tests.testkit.servers import connection_to
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES

BROKERS = ("memory", "postgresql+rabbitmq", "postgresql+redis")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stack", BROKERS)
def test_what_is_no_task_is_logged_and_dropped(
    stack: str, seeded_database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # good orders are to complete, however long the workers take to start
    patient = {"step_timeout_seconds": 60, "order_timeout_seconds": 60}
    with open_shop(stack, seeded_database, tmp_path, **patient) as shop:
        broker_url = shop.here.settings.broker_url
        book = shop.add_book(stock=10)
        ended = [place_and_settle(shop, book, pattern) for pattern in ("orchestration", "choreography")]

        with connection_to(broker_url) as connection:
            thrown = [message for queue in QUEUES for message in throw_everything(shop, connection, queue, tmp_path)]
        sent = Counter(message.says for message in thrown)

        def logged() -> Counter[str]:
            text = caplog.text + "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
            return Counter({words: text.count(words) for words in sent if words})

        shop.wait_for(logged, lambda said: all(said[words] >= sent[words] for words in sent if words))
        # whoever lived through it works off good orders, and one that has to be undone
        good = [place_and_settle(shop, book, pattern) for pattern in ("orchestration", "choreography")]
        bad = shop.order(book, simulate={"shipping": "decline"})
        assert shop.settle(bad["saga_id"])["status"] == "compensated"
        told = "SELECT count(*) FROM notifications"
        shop.wait_for(lambda: shop.rows(told), lambda rows: rows[0][0] == 5)
        assert [shop.saga(saga_id)["status"] for saga_id in (*ended, *good)] == ["completed"] * 4
        assert shop.stock(book) == (6, 0)
        assert shop.violations() == []

    assert not (tmp_path / "unpickled").exists()
    if stack != "memory":
        # nothing was kept back either, to be delivered again to the next worker
        with connection_to(broker_url) as connection:
            assert [name for queue in QUEUES for name in waiting(connection, queue)] == []


def place_and_settle(shop: Shop, book: str, pattern: str) -> str:
    placed = shop.order(book, pattern=pattern)
    assert shop.settle(placed["saga_id"])["status"] == "completed"
    return str(placed["saga_id"])


def throw_everything(shop: Shop, connection: Connection, queue: str, folder: Path) -> list[Forged]:
    """Lay every forged message into a queue; returns them."""
    found = "SELECT s.id, e.id FROM saga_instances s JOIN events e ON e.aggregate_id = s.order_id ORDER BY e.id DESC"
    events = dict(shop.rows(found))  # the first of each: a message about one that nobody waits for is put back
    messages = [
        *forged.garbage(folder),
        *forged.malformed(),
        *forged.misdirected(queue),
        *forged.false(queue),
        *(message for saga_id, event_id in events.items() for message in forged.about(str(saga_id), str(event_id))),
    ]
    for message in messages:
        forged.put(connection, queue, message)
    if connection.transport.driver_type == "redis":
        messages += [forged.push(connection, queue, item) for item in forged.NO_ENVELOPES]
    return messages


def waiting(connection: Connection, queue: str) -> list[str]:
    """Take what is left in a queue, and return the names of the tasks that should not be there.

    The scheduler still sends when the workers have stopped. A ``fly`` was sent on by a worker, which believes the chain
    of a forged message: another version may declare it, so it is put back for a while (engine/test_other_versions.py).
    """
    bound, names = Queue(queue)(connection.default_channel), []
    while message := bound.get(no_ack=True):
        names.append(str(message.headers.get("task")))
    return [name for name in names if name != "orchestrator.sweep" and not name.endswith(".fly")]
