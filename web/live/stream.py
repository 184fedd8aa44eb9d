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
from web.live.subscriber import ChangeSubscriber, Ear
from workflows.read_side import versions
from workflows.read_side.versions import Version

logger = logging.getLogger(__name__)

MAX_KEPT = 64
CACHE_TTL_SECONDS = 3  # pages show elapsed times

LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class StreamTimings:
    """Intervals and timeouts of a stream, in seconds."""

    poll: float = 0.5
    """The interval of database polls, and of checks whether the client is still connected."""
    seldom: float = 3
    """The poll interval while the change feed delivers: a few changes are not announced, and announcements get lost."""
    apart_at_least: float = 0.1
    """The minimum time between two polls, however many changes are announced."""
    renewal: float = 5
    """The interval of new snapshots of an unchanged active saga, whose page shows elapsed times."""
    beat: float = 7
    """The interval of keep-alive comments, so that no proxy closes the connection as idle."""
    life: float = 45
    """The lifetime of a stream: the browser reconnects by itself, and other clients can get the thread meanwhile."""
    retry: float = 1
    """The delay of a reconnect after a stream has ended."""
    retry_if_full: float = 5
    """The minimum delay of a reconnect when all streams are taken."""
    apart: float = 0.05
    """The time between the reconnects of two clients when all streams are taken."""


@dataclass(frozen=True)
class Snapshot:
    """The live part of a page, and a short summary of it."""

    html: str
    words: str


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    snapshot: Snapshot | None = None
    since: float = 0


class SnapshotCache:
    """An LRU cache of rendered snapshots: one is rendered once for all clients that watch the same saga."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()

    def get(self, key: tuple[str, ...], render: Callable[[], Snapshot]) -> Snapshot:
        """Return the snapshot cached under a key; render it if there is none, or if it has expired."""
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with kept.lock:
            now = time.monotonic()
            if kept.snapshot is None or now - kept.since > CACHE_TTL_SECONDS:
                kept.snapshot, kept.since = render(), now
            return kept.snapshot


@dataclass(frozen=True)
class Reader:
    """The client of a stream: the version that it has ``seen`` last, and a check whether it is ``gone``."""

    saga_id: str
    language: str
    seen: str | None
    gone: Callable[[], bool]


class RetrySlots:
    """Spreads the reconnects of clients that found no free stream, so that they do not come all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0.0

    def make(self, soonest: float, apart: float) -> float:
        """Return the delay in seconds of the next client's reconnect."""
        with self._lock:
            now = time.monotonic()
            self._last = max(now + soonest, self._last + apart)
            return self._last - now


class Live:
    """Serves the streams of one process; at most ``most`` at a time."""

    def __init__(self, app: Flask, most: int, render: Callable[[str, Version], Snapshot]) -> None:
        self.pace = StreamTimings()
        here = runtime.current()
        self.hearing = ChangeSubscriber(here.settings.shared_redis, here.stopping)
        self._app = app
        self._free = threading.Semaphore(most)
        self._render = render
        self._snapshots = SnapshotCache()
        self._appointments = RetrySlots()

    def stream(self, reader: Reader, found: Version) -> Iterator[bytes]:
        """Yield a client's messages, given the current version: all further changes, or only the newest snapshot."""
        free = self._free.acquire(blocking=False)
        try:
            yield from (self._follow if free else self._briefly)(reader, found)
        except DatabaseUnavailable as fault:
            # the client reconnects, and gets a snapshot once the database responds again
            logger.warning("a live page ended: the database does not answer", extra={"reason": fault})
        finally:
            if free:
                self._free.release()

    def later(self) -> bytes:
        """Return the message with the delay after which a client is to reconnect."""
        retry = self._appointments.make(self.pace.retry_if_full, self.pace.apart)
        return message("full", f"{retry:.1f}", retry=retry)

    def _briefly(self, reader: Reader, found: Version) -> Iterator[bytes]:
        yield self.later()
        if found.tag != reader.seen:
            yield self._snapshot(reader, found)
        if found.final:
            yield message("end")

    def _follow(self, reader: Reader, found: Version) -> Iterator[bytes]:
        yield message("live", retry=self.pace.retry)
        with self.hearing.of(reader.saga_id) as ear:
            yield from self._tell(reader, found, ear)

    def _tell(self, reader: Reader, found: Version, ear: Ear) -> Iterator[bytes]:
        began = shown = spoke = looked = time.monotonic()
        seen = reader.seen
        while True:
            now = time.monotonic()
            if found.tag != seen or (found.has_running_clock and now - shown > self.pace.renewal):
                yield self._snapshot(reader, found)
                seen, shown, spoke = found.tag, now, now
            if found.final:
                yield message("end")
                return
            if now - began > self.pace.life or reader.gone():
                return
            if now - spoke > self.pace.beat:
                yield b": still here\n\n"
                spoke = now
            told = ear.wait(self.pace.poll, not_before=looked + self.pace.apart_at_least)
            if runtime.current().stopping.is_set():
                return
            if told or not self.hearing.delivers or time.monotonic() - looked > self.pace.seldom:
                found, looked = versions.version(reader.saga_id), time.monotonic()

    def _snapshot(self, reader: Reader, found: Version) -> bytes:
        def render() -> Snapshot:
            # an anonymous request context: the snapshot is shared, and must not contain one client's data
            with self._app.test_request_context(headers={"Accept-Language": reader.language}):
                return self._render(reader.saga_id, found)

        snapshot = self._snapshots.get((reader.saga_id, found.tag, reader.language), render)
        return message("words", snapshot.words) + message("saga", snapshot.html, version=found.tag)


def message(event: str, data: str | None = None, *, version: str | None = None, retry: float | None = None) -> bytes:
    """Return one message of an event stream; ``retry`` is in seconds."""
    lines = [] if retry is None else [f"retry: {round(retry * 1000)}"]
    if version is not None:
        lines.append(f"id: {version}")
    lines.append(f"event: {event}")
    # browsers drop messages without data
    lines.extend(f"data: {line}" for line in LINE_END.split(data or event))
    return ("\n".join(lines) + "\n\n").encode()


def gone_of(environ: dict[str, object]) -> Callable[[], bool]:
    """Return a check whether this request's client has disconnected, which works without sending anything."""
    check = environ.get("waitress.client_disconnected")
    if callable(check):
        return lambda: bool(check())
    connection = environ.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and not isinstance(connection, ssl.SSLSocket):  # TLS has no MSG_PEEK
        return lambda: _hung_up(connection)
    return lambda: False


def _hung_up(connection: socket.socket) -> bool:
    # poll first: recv() of a socket with a timeout waits even with MSG_DONTWAIT
    poller = select.poll()
    try:
        poller.register(connection, select.POLLIN)
        return bool(poller.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # it is closed
        return True
