"""Live pages: server-sent events that carry whole snapshots, so that whoever comes back has missed nothing.

A stream holds a thread of the server for as long as it is open, and nothing else: between two looks at the database it
has no connection. At most half of the threads serve streams. Who finds them all taken is told to come back in some
seconds, gets a snapshot then if there is something new, and so needs a thread for a moment only.
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
CACHE_TTL_SECONDS = 3  # a page tells how long something takes by now

LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class StreamTimings:
    """How often a stream does what, in seconds."""

    poll: float = 0.5
    """A look at the database, and at whether the reader is still there."""
    seldom: float = 3
    """A look at the database where changes are announced: nearly all of them are, and an announcement may be lost."""
    apart_at_least: float = 0.1
    """The time between two looks, however much is announced."""
    renewal: float = 5
    """A new snapshot of what has not ended, though nothing has changed but the time that it takes."""
    beat: float = 7
    """A sign of life, so that nothing between us and the reader takes the connection for dead."""
    life: float = 45
    """The whole stream: the browser comes back by itself, and others have had their turn meanwhile."""
    retry: float = 1
    """How soon to come back after a stream has ended."""
    retry_if_full: float = 5
    """How soon to come back when all streams are taken."""
    apart: float = 0.05
    """The time between two who come back because all streams were taken."""


@dataclass(frozen=True)
class Snapshot:
    """The live part of a page, and what to say of it in a few words."""

    html: str
    words: str


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    snapshot: Snapshot | None = None
    since: float = 0


class SnapshotCache:
    """The last rendered snapshots: of many who watch the same saga only the first has it rendered."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()

    def get(self, key: tuple[str, ...], render: Callable[[], Snapshot]) -> Snapshot:
        """Return the snapshot kept under a key; it is rendered if there is none."""
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
    """Somebody with a live page: what they have ``seen`` last, and a way to ask whether they are ``gone``."""

    saga_id: str
    language: str
    seen: str | None
    gone: Callable[[], bool]


class RetrySlots:
    """When those who found no room may come back: however many they are, they do not come all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0.0

    def make(self, soonest: float, apart: float) -> float:
        """Return in how many seconds the next one may come."""
        with self._lock:
            now = time.monotonic()
            self._last = max(now + soonest, self._last + apart)
            return self._last - now


class Live:
    """The streams of one process: how many there may be, and how they are served."""

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
        """Yield what a reader is to get, given the version found now: the changes to come, or only the newest."""
        free = self._free.acquire(blocking=False)
        try:
            yield from (self._follow if free else self._briefly)(reader, found)
        except DatabaseUnavailable as fault:
            # the reader comes back, and is told where things stand once the database answers again
            logger.warning("a live page ended: the database does not answer", extra={"reason": fault})
        finally:
            if free:
                self._free.release()

    def later(self) -> bytes:
        """Return the message that tells a reader when to come back."""
        retry = self._appointments.make(self.pace.retry_if_full, self.pace.apart)
        return message("full", f"{retry:.1f}", retry=retry)

    def _briefly(self, reader: Reader, found: Version) -> Iterator[bytes]:
        yield self.later()
        if found.tag != reader.seen:
            yield self._snapshot(reader, found)
        if found.settled:
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
            if found.tag != seen or (found.ages and now - shown > self.pace.renewal):
                yield self._snapshot(reader, found)
                seen, shown, spoke = found.tag, now, now
            if found.settled:
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
            # a request of nobody: what is shown to one reader must not hold anything of another
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
    # browsers drop a message that has no data
    lines.extend(f"data: {line}" for line in LINE_END.split(data or event))
    return ("\n".join(lines) + "\n\n").encode()


def gone_of(environ: dict[str, object]) -> Callable[[], bool]:
    """Return a way to ask the server whether this request's client has hung up, without sending it anything."""
    check = environ.get("waitress.client_disconnected")
    if callable(check):
        return lambda: bool(check())
    connection = environ.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and not isinstance(connection, ssl.SSLSocket):  # TLS cannot be peeked at
        return lambda: _hung_up(connection)
    return lambda: False


def _hung_up(connection: socket.socket) -> bool:
    # asked of the system: recv() of a socket with a timeout waits, although MSG_DONTWAIT is set
    poller = select.poll()
    try:
        poller.register(connection, select.POLLIN)
        return bool(poller.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # it is closed
        return True
