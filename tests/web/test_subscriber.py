"""Live pages hear by Redis what has changed; and without it they miss nothing."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from app.redis import client as redis_client
from app.redis.change_feed import CHANNEL, ChangePublisher
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from tests.testkit.private_servers import PrivateRedis
from tests.testkit.processes import wait_for
from tests.testkit.web import SEED_ORDER, PlaceUnsent
from tests.web.test_live import messages, streams_of
from web import create_app
from web.live import subscriber
from web.live.stream import Live, StreamTimings
from workflows.read_side import versions

NEVER = 600
SOON = 100
"""A bound that a loaded machine keeps, and that who waits for NEVER does not."""
BRIEFLY = 0.1


@pytest.fixture
def settings(settings: Settings, private_redis: PrivateRedis) -> Settings:
    """Those of an installation with a Redis that can be taken away."""
    return settings.but(redis_url=private_redis.url)


@pytest.fixture
def live(flask_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Live:
    """Streams that look when they are told to, and else never where Redis delivers, and often where it does not."""
    monkeypatch.setattr(subscriber, "MAX_BACK_OFF", BRIEFLY)
    monkeypatch.setattr(subscriber, "READ_TIMEOUT_SECONDS", BRIEFLY / 2)
    monkeypatch.setattr(redis_client, "OPEN_SECONDS", BRIEFLY)
    streams = streams_of(flask_app)
    streams.timings = StreamTimings(
        poll=0.05, connected_poll=NEVER, refresh=NEVER, keep_alive=0, lifetime=NEVER, min_poll_interval=0
    )
    return streams


class Page:
    """A page that is read in a thread of its own, as a browser does."""

    def __init__(self, client: FlaskClient, saga_id: str) -> None:
        self.words: list[str] = []
        self.rounds = 0
        """How often its stream has waited."""
        self._answer = client.get(f"/sagas/{saga_id}/live", buffered=False)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def wait(self, live: Live) -> None:
        """Return when the stream waits, and has no reason left to look; Redis must deliver."""
        wait_for("what was announced", lambda: live.subscriber.connected)
        before = self.rounds
        wait_for("what was announced", lambda: self.rounds > before + 2)

    def _read(self) -> None:
        for chunk in self._answer.iter_encoded():
            self.rounds += chunk == b": still here\n\n"
            self.words += [one.data for one in messages(chunk.decode()) if one.event == "words"]
        self._answer.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(client: FlaskClient, here: Runtime, live: Live) -> Iterator[Open]:
    """Open pages, which are left at the end."""
    opened: list[Page] = []

    def open_one(saga_id: str, client: FlaskClient = client) -> Page:
        opened.append(Page(client, saga_id))
        return opened[-1]

    yield open_one
    here.stopping.set()
    for page in opened:
        page.reader.join(SOON)
        assert not page.reader.is_alive(), "a stream ends when the process does, however long it would wait"


def test_a_page_hears_nothing_of_other_sagas(
    open_page: Open, live: Live, saga_id: str, place_unsent: PlaceUnsent, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place_unsent(SEED_ORDER)["saga_id"]
    page = open_page(saga_id)
    page.wait(live)
    looked: list[str] = []
    look = versions.version

    def noted(saga_id: str) -> versions.Version:
        looked.append(saga_id)
        return look(saga_id)

    monkeypatch.setattr(versions, "version", noted)

    sagas.cancel(other)
    page.wait(live)

    assert not looked


def test_every_web_process_hears_and_looks_now_and_then_all_the_same(
    open_page: Open, live: Live, saga_id: str, here: Runtime
) -> None:
    elsewhere = create_app()
    streams_of(elsewhere).timings = live.timings
    pages = open_page(saga_id), open_page(saga_id, elsewhere.test_client())
    for page, streams in zip(pages, (live, streams_of(elsewhere)), strict=True):
        page.wait(streams)

    sagas.cancel(saga_id)

    wait_for("what was announced", lambda: all(page.words[-1] == "Compensated" for page in pages))
    live.timings = replace(live.timings, connected_poll=BRIEFLY)
    page = open_page(saga_id)
    page.wait(live)
    with here.database.transaction() as session:  # not signalled, so it is not announced
        session.execute(text("UPDATE saga_instances SET status = 'compensating', current_step = 'reserve_stock'"))
    wait_for("what was announced", lambda: "reserve_stock" in page.words[-1])


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_a_page_goes_on_while_redis_is_away_and_hears_again_when_it_is_back(
    open_page: Open,
    here: Runtime,
    live: Live,
    saga_id: str,
    place_unsent: PlaceUnsent,
    private_redis: PrivateRedis,
    way: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 3 * BRIEFLY)
    unsent = str(place_unsent(SEED_ORDER)["saga_id"])
    page, other = open_page(saga_id), open_page(unsent)
    page.wait(live)
    assert private_redis.process

    private_redis.process.send_signal(way)
    sagas.cancel(saga_id)
    wait_for("what was announced", lambda: page.words[-1] == "Compensated")
    assert not live.subscriber.connected

    if way == signal.SIGKILL:
        private_redis.process.wait()
        private_redis.start()
    else:
        private_redis.process.send_signal(signal.SIGCONT)
    other.wait(live)
    sagas.cancel(unsent)

    def heard() -> bool:
        assert here.change_publisher
        here.change_publisher.announce(unsent)  # for a moment it still leaves Redis alone
        return other.words[-1] == "Compensated"

    wait_for("what was announced", heard)


def test_what_is_no_text_on_the_channel_makes_nobody_deaf(
    private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "READ_TIMEOUT_SECONDS", BRIEFLY / 2)
    stopping = threading.Event()
    hears = subscriber.ChangeSubscriber(private_redis.url, stopping)
    speaker = redis_client.connect(private_redis.url)
    with hears.subscribe("a saga"):
        wait_for("what was announced", lambda: hears.connected)
        speaker.publish(CHANNEL, b"\xff")
        wait_for("what was announced", lambda: not hears.connected)
        wait_for("what was announced", lambda: hears.connected)
    stopping.set()
    speaker.close()


# ---- those who announce


def test_who_announces_waits_for_nobody(private_redis: PrivateRedis, caplog: pytest.LogCaptureFixture) -> None:
    assert private_redis.process
    announcer = ChangePublisher(private_redis.url)
    private_redis.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        while not caplog.messages:
            announcer.announce("one")
            assert time.monotonic() - began < SOON
        called = time.monotonic()
        for _ in range(1000):
            announcer.announce("one")
        took = time.monotonic() - called
        announcer.close()

    assert took < 1000 * redis_client.TIMEOUT_SECONDS / 50  # each of them would have waited that long
    assert caplog.messages == ["Redis does not answer: pages look for changes themselves"]


def test_what_changed_last_is_announced_before_the_process_ends(private_redis: PrivateRedis) -> None:
    with redis_client.connect(private_redis.url) as client, client.pubsub() as listener:
        listener.subscribe(CHANNEL)
        announcer = ChangePublisher(private_redis.url)
        announcer.announce("one")
        announcer.announce("another")
        announcer.close()
        heard = [listener.get_message(timeout=1) for _ in range(3)]

    ids = {word for message in heard if message and message["type"] == "message" for word in message["data"].split()}
    assert ids == {"one", "another"}


def test_what_is_closed_while_it_waits_for_an_answer_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    announcer = ChangePublisher("redis://127.0.0.1:1")
    asked = threading.Event()

    def closed_meanwhile(*_: object) -> None:
        asked.set()
        wait_for("the announcer to be closed", lambda: announcer._closed)
        raise ValueError("I/O operation on closed file.")

    monkeypatch.setattr(announcer._redis, "publish", closed_meanwhile)
    announcer.announce("one")
    assert asked.wait(SOON)

    announcer.close()  # a thread that raised would fail the test: warnings are errors

    assert announcer._thread is not None
    announcer._thread.join(SOON)
    assert not announcer._thread.is_alive()
