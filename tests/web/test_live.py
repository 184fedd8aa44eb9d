import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_babel import get_locale

import web.live.stream
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from tests.testkit.messages import Clock
from tests.testkit.web import SEED_ORDER, STUCK, PlaceUnsent, post, value_after
from web import create_app
from web.live.stream import Live, Snapshot, StreamTimings, disconnect_check, message
from web.pages import saga as saga_page
from workflows.read_side import versions

LONG_AFTER = 60
QUICK = StreamTimings(poll=0.005)


@dataclass(frozen=True)
class Message:
    """A message as a browser understands it."""

    event: str
    data: str
    id: str | None


def messages(text: str) -> list[Message]:
    """Read an event stream by the rules of the HTML standard."""
    read = []
    for block in text.split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n") if line]
        values = {name: value.removeprefix(" ") for name, _, value in fields}
        data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
        if data:
            read.append(Message(values.get("event", "message"), data, values.get("id")))
    return read


def events(text: str) -> list[str]:
    return [one.event for one in messages(text)]


def snapshots(text: str) -> list[Message]:
    return [one for one in messages(text) if one.event == "saga"]


def streams_of(app: Flask) -> Live:
    return cast(Live, app.extensions["live"])


@pytest.fixture
def live(flask_app: Flask) -> Live:
    """The app's streams: they look often, and end soon where nothing happens."""
    streams = streams_of(flask_app)
    streams.timings = StreamTimings(poll=0.005, keep_alive=60, lifetime=0.05, retry=1, retry_if_full=5)
    return streams


def listen(client: FlaskClient, saga_id: str, last_seen: str | None = None, query: str = "", **headers: str) -> str:
    """Listen until the stream ends; returns everything that came."""
    seen = {"Last-Event-ID": last_seen} if last_seen else {}
    answer = client.get(f"/sagas/{saga_id}/live{query}", headers={**seen, **headers})
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    return answer.text


@contextmanager
def opened(client: FlaskClient, saga_id: str, last_seen: str | None = None) -> Iterator[Iterator[Message]]:
    """Open a stream; yields its messages as they come, and hangs up at the end."""
    seen = {"Last-Event-ID": last_seen} if last_seen else {}
    with client.get(f"/sagas/{saga_id}/live", headers=seen, buffered=False) as answer:
        yield (one for chunk in answer.iter_encoded() for one in messages(chunk.decode()))


def following(stream: Iterator[Message], event: str) -> Message:
    return next(one for one in stream if one.event == event)


def test_whoever_comes_gets_the_whole_live_part_at_once(
    client: FlaskClient, clock: Clock, live: Live, saga_id: str
) -> None:
    text = listen(client, saga_id)

    assert events(text) == ["live", "words", "saga"]
    assert text.startswith("retry: 1000\n")
    assert Message("words", "Pending: create_order", None) in messages(text)
    (snapshot,) = snapshots(text)
    with client.application.test_request_context():
        assert snapshot.data == saga_page.live_part(saga_id)
    assert snapshot.id == versions.version(saga_id).tag


def test_whoever_has_seen_it_hears_nothing_until_it_changes(client: FlaskClient, live: Live, saga_id: str) -> None:
    (seen,) = snapshots(listen(client, saga_id))
    assert events(listen(client, saga_id, seen.id)) == ["live"]
    live.timings = QUICK

    with opened(client, saga_id, seen.id) as stream:
        assert next(stream).event == "live"
        sagas.cancel(saga_id)
        assert following(stream, "words").data == "Compensated"
        assert following(stream, "saga").id == versions.version(saga_id).tag


def test_whoever_was_away_gets_the_newest_state_whatever_they_saw_last(
    client: FlaskClient, live: Live, saga_id: str
) -> None:
    page = client.get(f"/sagas/{saga_id}")
    assert "Pause updates" in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text  # only without a script
    made_from = value_after(page, "data-live=").partition("/live")[2]
    assert snapshots(listen(client, saga_id, query=made_from)) == []
    (seen,) = snapshots(listen(client, saga_id, "older", query=made_from))
    sagas.cancel(saga_id)

    (news,) = snapshots(listen(client, saga_id, seen.id))

    assert news.id == versions.version(saga_id).tag != seen.id
    assert snapshots(listen(client, saga_id, "of another server")) == [news]
    assert snapshots(listen(client, saga_id, query=made_from)) == [news]


def test_what_takes_longer_and_longer_is_shown_anew_and_silence_shows_that_it_lives(
    client: FlaskClient, live: Live, saga_id: str
) -> None:
    live.timings = StreamTimings(poll=0.005, refresh=0.01)
    for moving in (saga_id, post(client, "/api/v1/orders", STUCK)["saga_id"]):
        with opened(client, moving) as stream:
            assert following(stream, "saga").id == following(stream, "saga").id

    live.timings = StreamTimings(poll=0.005, keep_alive=0.01)
    with client.get(f"/sagas/{saga_id}/live", buffered=False) as answer:
        assert b": still here\n\n" in islice(answer.iter_encoded(), 10)


def test_a_saga_that_has_ended_ends_its_stream_a_little_later_and_for_good(
    client: FlaskClient, clock: Clock, live: Live, order: dict[str, Any]
) -> None:
    ended = order["saga_id"]
    assert events(listen(client, ended)) == ["live", "words", "saga"]

    clock.forward(LONG_AFTER)

    text = listen(client, ended)
    assert events(text) == ["live", "words", "saga", "end"]
    again = client.get(f"/sagas/{ended}/live", headers={"Last-Event-ID": str(snapshots(text)[0].id)})
    assert (again.status_code, again.text) == (204, "")
    assert client.head(f"/sagas/{ended}/live?seen={versions.version(ended).tag}").status_code == 204
    assert "data-live=" not in client.get(f"/sagas/{ended}").text


def test_a_stream_is_announced_by_head_and_held_back_by_nobody(client: FlaskClient, live: Live, saga_id: str) -> None:
    assert client.head(f"/sagas/{saga_id}/live?seen={versions.version(saga_id).tag}").status_code == 200
    headers = client.get(f"/sagas/{saga_id}/live").headers
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")


# ---- the server's threads and connections


@pytest.fixture
def crowded(here: Runtime, settings: Settings) -> FlaskClient:
    """A client of a server that has room for one stream."""
    here.close()
    app = create_app(settings.but(web_threads=3))
    streams_of(app).timings = QUICK
    return app.test_client()


def test_who_finds_no_room_is_told_to_come_back_later_and_not_all_at_once(
    crowded: FlaskClient, place_unsent: PlaceUnsent, settings: Settings
) -> None:
    saga_id = place_unsent(SEED_ORDER)["saga_id"]
    ended = post(crowded, "/api/v1/orders", SEED_ORDER)["saga_id"]

    with opened(crowded, saga_id) as first:
        next(first)
        text = listen(crowded, saga_id)
        assert text.startswith("retry: 5000\n")
        assert events(text) == ["full", "words", "saga"]
        assert events(listen(crowded, saga_id, snapshots(text)[0].id)) == ["full"]
        streams_of(crowded.application).timings = StreamTimings(poll=0.005, retry_if_full=5, retry_spacing=20)
        later = [float(messages(listen(crowded, saga_id))[0].data) for _ in range(3)]
        with pytest.MonkeyPatch.context() as patch:  # who finds no room learns of the end
            patch.setattr(versions, "AFTERMATH", versions.AFTERMATH * 0)
            assert events(listen(crowded, ended)) == ["full", "words", "saga", "end"]

    assert later == pytest.approx([25, 45, 65], abs=10)  # after the two that came before
    with opened(crowded, saga_id) as second:
        assert next(second).event == "live"
    of_one_thread = create_app(settings.but(web_threads=1)).test_client()
    assert events(listen(of_one_thread, saga_id))[0] == "full"


def test_a_stream_that_waits_holds_no_connection_and_ends_when_the_process_does(
    client: FlaskClient, here: Runtime, live: Live, saga_id: str
) -> None:
    live.timings = StreamTimings(poll=60)

    with opened(client, saga_id) as stream:
        following(stream, "saga")
        assert here.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        here.stopping.set()
        assert list(stream) == []


def test_a_stream_ends_when_its_reader_has_hung_up(client: FlaskClient, live: Live, saga_id: str) -> None:
    live.timings = QUICK
    ours, theirs = socket.socketpair()
    with ours:
        answer = client.get(f"/sagas/{saga_id}/live", environ_base={"gunicorn.socket": ours}, buffered=False)
        chunks = answer.iter_encoded()
        assert [one.event for chunk in islice(chunks, 2) for one in messages(chunk.decode())][-1] == "saga"

        theirs.close()

        assert list(chunks) == []


@pytest.mark.parametrize("timeout", [None, 0.0, 0.1])
def test_asking_the_server_whether_a_client_hung_up_does_not_wait(timeout: float | None) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(timeout)
    gone = disconnect_check({"gunicorn.socket": ours})

    with ours, theirs:
        assert not gone()
        theirs.sendall(b"GET")  # the client's next request waits there already
        assert not gone()
    assert gone(), "a closed socket has nobody behind it"
    assert disconnect_check({"waitress.client_disconnected": lambda: True})()
    assert not disconnect_check({})()


def test_without_a_database_a_stream_ends_in_order_and_is_asked_for_again_later(
    crowded: FlaskClient, place_unsent: PlaceUnsent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: str) -> versions.Version:
        raise DatabaseUnavailable("away")

    saga_id = place_unsent(SEED_ORDER)["saga_id"]
    for _ in range(2):  # the second finds the room that the first has left
        with opened(crowded, saga_id) as stream, pytest.MonkeyPatch.context() as patch:
            assert next(stream).event == "live"
            patch.setattr(versions, "version", fault)
            assert [one.event for one in stream] == ["words", "saga"]
    monkeypatch.setattr(versions, "version", fault)
    assert listen(crowded, saga_id).startswith("retry: 5000\n")


# ---- what is rendered, and how often


def rendered_by(streams: Live, monkeypatch: pytest.MonkeyPatch, html: Callable[[], str]) -> list[str]:
    """Have the live part rendered by a function; returns what it rendered so far."""
    done: list[str] = []

    def render(_: str, __: versions.Version) -> Snapshot:
        done.append(html())
        return Snapshot(done[-1], "words")

    monkeypatch.setattr(streams, "_render", render)
    return done


def test_each_reader_is_answered_in_their_language_and_with_nothing_else_of_theirs(
    client: FlaskClient, live: Live, saga_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered_by(live, monkeypatch, lambda: f"{get_locale()}, cookies: {len(request.cookies)}")

    def read(wanted: str) -> str:
        return snapshots(listen(client, saga_id, **{"Accept-Language": wanted}))[0].data

    ja, en = "ja, cookies: 0", "en, cookies: 0"
    assert [read(wanted) for wanted in ("ja", "en", "ja")] == [ja, en, ja]
    client.set_cookie("session", "somebody")
    client.set_cookie("language", "ja")  # chosen on the page
    assert read("en") == ja


def test_what_many_watch_is_rendered_once_for_each_change(
    client: FlaskClient, live: Live, saga_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.live.stream, "CACHE_TTL_SECONDS", math.inf)  # however long the six take
    done = rendered_by(live, monkeypatch, lambda: "page")
    for changes in (1, 2):
        for _ in range(3):
            listen(client, saga_id)
        assert len(done) == changes
        sagas.cancel(saga_id)


def test_a_message_of_many_lines_or_none_arrives_as_it_was() -> None:
    text = message("saga", "a\r\nb\rc\n\n d\u2028e\n", version="1", retry=2.5).decode()

    assert messages(text) == [Message("saga", "a\nb\nc\n\n d\u2028e\n", "1")]
    assert text.startswith("retry: 2500\nid: 1\nevent: saga\ndata: a\n")
    assert messages(message("end").decode()) == [Message("end", "end", None)]
