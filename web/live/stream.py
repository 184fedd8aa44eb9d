"""Stream live pages as server-sent events with complete snapshots, so that a reconnecting client has missed nothing.

An open stream occupies a server thread, but no database connection between two polls. At most half of the threads serve
streams. Without a free one, a client gets the newest snapshot if it has changed, and the delay after which to retry; so
it occupies a thread only briefly.
"""

import logging
import re
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flask import Flask

from app import runtime
from app.errors import DatabaseUnavailable
from web.live.subscriber import ChangeSubscriber, StreamSubscription
from workflows.read_side import versions
from workflows.read_side.versions import Version

logger = logging.getLogger(__name__)

MAX_CACHED = 64
CACHE_TTL_SECONDS = 3  # pages show elapsed times

LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class StreamTimings:
    """Intervals and timeouts of a stream, in seconds."""

    poll: float = 0.5
    """The interval of database polls, and of checks whether the client is still connected."""
    connected_poll: float = 3
    """The poll interval while the change feed delivers: a few changes are not announced, and announcements get lost."""
    min_poll_interval: float = 0.1
    """The minimum time between two polls, however many changes are announced."""
    refresh: float = 5
    """The interval of new snapshots of an unchanged active saga, whose page shows elapsed times."""
    keep_alive: float = 7
    """The interval of keep-alive comments, so that no proxy closes the connection as idle."""
    lifetime: float = 45
    """The lifetime of a stream: the browser reconnects by itself, and other clients can get the thread meanwhile."""
    retry: float = 1
    """The delay of a reconnect after a stream has ended."""
    retry_if_full: float = 5
    """The minimum delay of a reconnect when all streams are taken."""
    retry_spacing: float = 0.05
    """The time between the reconnects of two clients when all streams are taken."""


@dataclass(frozen=True)
class Snapshot:
    """The live part of a page, and a short summary of it."""

    html: str
    summary: str


@dataclass
class _CacheEntry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    snapshot: Snapshot | None = None
    rendered_at: float = 0


class SnapshotCache:
    """An LRU cache of rendered snapshots: one is rendered once for all clients that watch the same saga."""

    def __init__(self, max_entries: int = MAX_CACHED) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, ...], _CacheEntry] = OrderedDict()

    def get(self, key: tuple[str, ...], render: Callable[[], Snapshot]) -> Snapshot:
        """Return the snapshot cached under a key; render it if there is none, or if it has expired."""
        with self._lock:
            entry = self._entries.setdefault(key, _CacheEntry())
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        with entry.lock:
            now = time.monotonic()
            if entry.snapshot is None or now - entry.rendered_at > CACHE_TTL_SECONDS:
                entry.snapshot, entry.rendered_at = render(), now
            return entry.snapshot


@dataclass(frozen=True)
class Client:
    """The client of a stream: the version that it has ``seen`` last, and a check whether it is ``disconnected``."""

    saga_id: str
    language: str
    seen: str | None
    disconnected: Callable[[], bool]


class Live:
    """Serves the streams of one process; at most ``max_streams`` at a time."""

    def __init__(self, app: Flask, max_streams: int, render: Callable[[str, Version], Snapshot]) -> None:
        self.timings = StreamTimings()
        current = runtime.current()
        self.subscriber = ChangeSubscriber(current.settings.shared_redis, current.stopping)
        self._app = app
        self._slots = threading.Semaphore(max_streams)
        self._render = render
        self._snapshots = SnapshotCache()
        self._lock = threading.Lock()
        self._last_retry = 0.0

    def stream(self, client: Client, found: Version) -> Iterator[bytes]:
        """Yield a client's messages, given the current version: all further changes, or only the newest snapshot."""
        has_slot = self._slots.acquire(blocking=False)
        try:
            yield from (self._follow if has_slot else self._snapshot_only)(client, found)
        except DatabaseUnavailable as error:
            # the client reconnects, and gets a snapshot once the database responds again
            logger.warning("a live page ended: the database does not answer", extra={"reason": error})
        finally:
            if has_slot:
                self._slots.release()

    def retry_later(self) -> bytes:
        """Return the message with the delay after which a client is to reconnect, not at once with the others."""
        with self._lock:
            now = time.monotonic()
            self._last_retry = max(now + self.timings.retry_if_full, self._last_retry + self.timings.retry_spacing)
            retry = self._last_retry - now
        return message("full", f"{retry:.1f}", retry=retry)

    def _snapshot_only(self, client: Client, found: Version) -> Iterator[bytes]:
        yield self.retry_later()
        if found.tag != client.seen:
            yield self._snapshot(client, found)
        if found.final:
            yield message("end")

    def _follow(self, client: Client, found: Version) -> Iterator[bytes]:
        yield message("live", retry=self.timings.retry)
        with self.subscriber.subscribe(client.saga_id) as subscription:
            yield from self._send_changes(client, found, subscription)

    def _send_changes(self, client: Client, found: Version, subscription: StreamSubscription) -> Iterator[bytes]:
        started = rendered_at = sent_at = polled_at = time.monotonic()
        seen = client.seen
        while True:
            now = time.monotonic()
            if found.tag != seen or (found.has_running_clock and now - rendered_at > self.timings.refresh):
                yield self._snapshot(client, found)
                seen, rendered_at, sent_at = found.tag, now, now
            if found.final:
                yield message("end")
                return
            if now - started > self.timings.lifetime or client.disconnected():
                return
            if now - sent_at > self.timings.keep_alive:
                yield b": still here\n\n"
                sent_at = now
            notified = subscription.wait(self.timings.poll, not_before=polled_at + self.timings.min_poll_interval)
            if runtime.current().stopping.is_set():
                return
            if notified or not self.subscriber.connected or time.monotonic() - polled_at > self.timings.connected_poll:
                found, polled_at = versions.version(client.saga_id), time.monotonic()

    def _snapshot(self, client: Client, found: Version) -> bytes:
        def render() -> Snapshot:
            # an anonymous request context: the snapshot is shared, and must not contain one client's data
            with self._app.test_request_context(headers={"Accept-Language": client.language}):
                return self._render(client.saga_id, found)

        snapshot = self._snapshots.get((client.saga_id, found.tag, client.language), render)
        return message("words", snapshot.summary) + message("saga", snapshot.html, version=found.tag)


def message(event: str, data: str | None = None, *, version: str | None = None, retry: float | None = None) -> bytes:
    """Return one message of an event stream; ``retry`` is in seconds."""
    lines = [] if retry is None else [f"retry: {round(retry * 1000)}"]
    if version is not None:
        lines.append(f"id: {version}")
    lines.append(f"event: {event}")
    # browsers drop messages without data
    lines.extend(f"data: {line}" for line in LINE_END.split(data or event))
    return ("\n".join(lines) + "\n\n").encode()


def disconnect_check(environ: dict[str, object]) -> Callable[[], bool]:
    """Return a check whether this request's client has disconnected, which works without sending anything."""
    check = environ.get("waitress.client_disconnected")
    if callable(check):
        return lambda: bool(check())
    connection = environ.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and not isinstance(connection, ssl.SSLSocket):  # TLS has no MSG_PEEK
        return lambda: _is_closed(connection)
    return lambda: False


def _is_closed(connection: socket.socket) -> bool:
    # poll first: recv() of a socket with a timeout waits even with MSG_DONTWAIT
    poller = select.poll()
    try:
        poller.register(connection, select.POLLIN)
        return bool(poller.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # it is closed
        return True
