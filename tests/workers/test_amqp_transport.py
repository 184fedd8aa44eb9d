"""RabbitMQ as the broker: what is written and read together, on a real server, counted in calls to the system."""

import logging
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from amqp import transport
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub

from app.celery import app as celery
from app.celery import configuration
from app.settings import Settings
from durable_sagas.messaging.transports.amqp import ack_together
from tests.testkit.processes import wait_for
from tests.testkit.servers import connection_to, open_broker

MESSAGES = 50
PATIENCE_SECONDS = 60


class Counted:
    """Counts the calls by which a connection's socket is asked to write, to read, and to wait for so long."""

    def __init__(self, connection: Connection) -> None:
        transport: Any = connection.connection.transport
        self.writes = transport._write = Mock(side_effect=transport._write)
        self.reads = transport._quick_recv = Mock(side_effect=transport._quick_recv)
        self.waits = transport.having_timeout = Mock(side_effect=transport.having_timeout)


@pytest.fixture
def broker_url() -> Iterator[str]:
    with open_broker("rabbitmq") as url:
        yield url


@pytest.fixture
def connection(broker_url: str) -> Iterator[Connection]:
    with connection_to(broker_url) as connection:
        connection.connect()
        yield connection


@pytest.fixture
def queue(broker_url: str, connection: Connection) -> Iterator[Queue]:
    name = f"test-{uuid4()}"
    queue = Queue(name)(connection.default_channel)
    queue.declare()
    yield queue
    with connection_to(broker_url) as another:  # the test may have broken its own
        Queue(name)(another.default_channel).delete()


@pytest.fixture
def producer(connection: Connection) -> Any:  # its types do not know of batches yet
    return Producer(connection)


def publish(producer: Producer, queue: Queue, numbers: range = range(MESSAGES)) -> None:
    for number in numbers:
        producer.publish({"number": number}, routing_key=queue.name, exchange="")


def number_in(message: Message) -> int:
    return int(message.payload["number"])


def readable(connection: Connection) -> bool:
    return bool(select.select([connection.connection.sock], [], [], PATIENCE_SECONDS)[0])


def read_in_a_loop(connection: Connection, enough: Callable[[], bool]) -> None:
    """Read as a worker does: when the system says that there is something, and not once more."""
    hub = Hub()
    connection.transport.register_with_event_loop(connection.connection, hub)
    loop = hub.create_loop()
    try:
        while not enough():
            # what the hub would do in this turn anyway comes first; then it sleeps until the socket stirs
            assert readable(connection), "the loop would sleep beside a message"
            next(loop)
    finally:
        hub.close()


def waiting(queue: Queue) -> int:
    told: Any = queue.queue_declare(passive=True)
    return int(told.message_count)


def wait_until_waiting(queue: Queue, messages: int) -> None:
    """Wait until so many messages are in the queue."""
    wait_for(f"{messages} messages in {queue.name}", lambda: waiting(queue) == messages)


def numbers_in(queue: Queue, count: int) -> list[int]:
    """Take so many messages, once they are all there: RabbitMQ says how many they are before it has put the last in."""
    wait_until_waiting(queue, count)
    got = [queue.get(no_ack=True) for _ in range(count)]
    return [number_in(message) for message in got if message]


def test_what_is_sent_together_is_one_write(connection: Connection, producer: Any, queue: Queue) -> None:
    counted = Counted(connection)

    with producer.batch():
        publish(producer, queue)
        assert counted.writes.call_count == 0

    assert counted.writes.call_count == 1
    assert counted.reads.call_count == 1  # whether the broker minds
    assert numbers_in(queue, MESSAGES) == list(range(MESSAGES))


def test_who_asks_the_broker_is_answered_behind_what_is_kept_and_an_exception_sends_nothing(
    producer: Any, queue: Queue
) -> None:
    with pytest.raises(KeyError), producer.batch():
        publish(producer, queue, range(3))
        wait_until_waiting(queue, 3)
        publish(producer, queue, range(3, 5))
        raise KeyError
    publish(producer, queue, range(10, 12))  # the connection goes on

    assert numbers_in(queue, 5) == [0, 1, 2, 10, 11]


def test_a_broken_connection_is_told_to_whoever_sends_together(
    connection: Connection, producer: Any, queue: Queue
) -> None:
    with pytest.raises(connection.connection_errors), producer.batch():
        publish(producer, queue, range(3))
        connection.connection.sock.shutdown(socket.SHUT_RDWR)


def test_what_is_acknowledged_together_is_one_write(broker_url: str, connection: Connection, queue: Queue) -> None:
    publish(Producer(connection), queue)
    got: list[Message] = []
    with Consumer(connection, [queue], on_message=got.append, prefetch_count=MESSAGES):
        read_in_a_loop(connection, lambda: len(got) == MESSAGES)
        counted = Counted(connection)

        with ack_together(connection):
            for message in got:
                message.ack()
            assert counted.writes.call_count == 0

        assert counted.writes.call_count == 1
    connection.close()  # what is not acknowledged would come back now
    with connection_to(broker_url) as another:
        assert waiting(Queue(queue.name)(another.default_channel)) == 0


def test_acknowledgements_on_a_broken_connection_are_logged_and_the_messages_come_again(
    broker_url: str, connection: Connection, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    publish(Producer(connection), queue, range(3))
    got: list[Message] = []
    Consumer(connection, [queue], on_message=got.append).consume()
    read_in_a_loop(connection, lambda: len(got) == 3)

    with caplog.at_level(logging.WARNING), ack_together(connection):
        for message in got:
            message.ack()
        connection.connection.sock.shutdown(socket.SHUT_RDWR)

    assert "delivered again" in caplog.text
    connection.collect()
    with connection_to(broker_url) as another:
        again: list[Message] = []
        with Consumer(another, [Queue(queue.name)], on_message=again.append, no_ack=True):
            read_in_a_loop(another, lambda: len(again) == 3)
    assert all(message.delivery_info["redelivered"] for message in again)


def test_many_messages_are_read_by_few_calls(connection: Connection, queue: Queue) -> None:
    publish(Producer(connection), queue)
    wait_until_waiting(queue, MESSAGES)
    got: list[Message] = []
    with Consumer(connection, [queue], on_message=got.append, prefetch_count=MESSAGES):
        sock: socket.socket = connection.connection.sock
        wait_for(
            "all to be in the connection's socket, of which nothing is taken",
            lambda: readable(connection) and sock.recv(1 << 20, socket.MSG_PEEK).count(b'"number"') == MESSAGES,
        )
        counted = Counted(connection)

        read_in_a_loop(connection, lambda: len(got) == MESSAGES)

        assert [number_in(message) for message in got] == list(range(MESSAGES))
        assert counted.reads.call_count < MESSAGES  # kombu's own connection: six for each message
        assert len([wait for wait in counted.waits.call_args_list if wait.args[0] is not None]) < MESSAGES  # three


def test_who_waits_for_a_message_takes_no_other_from_the_loop(
    broker_url: str, connection: Connection, queue: Queue
) -> None:
    few = range(10)
    publish(Producer(connection), queue, few)
    got: list[Message] = []
    with Consumer(connection, [queue], on_message=got.append), connection_to(broker_url) as another:
        wait_until_waiting(Queue(queue.name)(another.default_channel), 0)  # they are all on their way

        connection.drain_events(timeout=PATIENCE_SECONDS)
        assert len(got) == 1
        # of what was read ahead the system would not say that it is there
        read_in_a_loop(connection, lambda: len(got) == len(few))

    assert [number_in(message) for message in got] == list(few)


def test_with_tls_too_what_is_sent_together_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(transport.SSLTransport, "write", lambda _, data: written.append(bytes(data)))
    there = configuration(Settings(broker_url="amqps://localhost//"))
    kombus: Any = celery.connection_for_write(there["broker_url"], transport=there["broker_transport"])
    connection = kombus.transport.Connection(host="localhost", ssl=kombus.transport.client.ssl)
    assert connection.ssl

    made = connection.Transport("localhost", 1.0, connection.ssl)
    connection.held.hold()
    made.write(b"a")
    made.write(b"b")
    assert written == []
    connection.held.release()

    assert isinstance(made, transport.SSLTransport)
    assert written == [b"ab"]
