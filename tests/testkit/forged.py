"""Messages that nobody here has sent: what a worker must survive, and what its log then says of each."""

import gzip
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu import Connection

DROPPED = "it is no task of ours"
NO_MESSAGE = "it is no message"
UNDECODABLE = "Can't decode message body"
NO_EVENT = "message for no known event, dropped"
NO_SAGA = "message for no known saga, dropped"
JSON = "application/json"
NOBODY = str(uuid4())


@dataclass(frozen=True)
class Forged:
    """A message as it lies in a queue, and the words with which a worker must drop it."""

    body: bytes
    says: str = DROPPED
    headers: Mapping[str, Any] | None = None
    content_type: str | None = JSON
    content_encoding: str | None = "utf-8"


class Harmful:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def task(name: Any, *args: Any, embed: Any = None, says: str = DROPPED, **arguments: Any) -> Forged:
    """Return a task message with the form that Celery gives it."""
    body = [args, arguments, {} if embed is None else embed]
    return Forged(json.dumps(body).encode(), says, {"task": name, "id": str(uuid4()), "lang": "py"})


def headed(**headers: Any) -> Forged:
    """Return a good message with other headers; one that is None is left out."""
    good = task("inventory.reserve_stock", saga_id=NOBODY)
    together = {**(good.headers or {}), **headers}
    return Forged(good.body, headers={name: value for name, value in together.items() if value is not None})


def bodied(body: bytes, content_type: str = JSON) -> Forged:
    """Return a message with good headers and another body."""
    return Forged(body, headers=headed().headers, content_type=content_type)


def signature(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a task as a message carries it along."""
    return {"task": name, "args": [], "kwargs": arguments, "options": {}, "subtask_type": None, "immutable": True}


def garbage(folder: Path) -> list[Forged]:
    """Return what is no message of Celery's at all; pickles would make a directory in the folder."""
    harmful = pickle.dumps(Harmful(folder / "unpickled"))
    pickled = "application/x-python-serialize"
    return [
        Forged(b"\x00\xff garbage", content_type="application/octet-stream", content_encoding="binary"),
        Forged(b"hello", content_type="text/plain"),
        Forged(b"", content_type=None, content_encoding=None),
        *(Forged(text) for text in (b"", b"{nope", b"null", b"7", b"[1, 2, 3]", b'{"a": 1}', b"\xff\xfe{")),
        Forged(b'{"task": "inventory.reserve_stock", "id": "x", "args": [], "kwargs": {}}'),
        Forged(b'{"task": ["x"], "id": "x", "args": 7, "kwargs": 7}'),
        Forged(harmful, content_type=pickled, content_encoding="binary"),
        bodied(harmful, pickled),
        bodied(b"[]", "application/x-yaml"),
        bodied(b"[]", "application/x-unheard-of"),
    ]


def malformed() -> list[Forged]:
    """Return messages of Celery's whose form is not the one that its worker counts on."""
    compressed = [headed(compression=kind) for kind in ("unheard-of", "application/x-gzip", "zlib")]
    bomb = gzip.compress(b" " * 10_000_000)
    bodies = (b"", b"null", b"[]", b"{}", b"[1, 2, 3]", b'["a", "b", "c"]', b'{"args": [], "kwargs": 7}', b"\xff{")
    return [
        *(headed(task=name) for name in (7, ["x"], {"x": 1}, "", "inventory.fly", "celery.chain", "celery.map")),
        *(headed(id=value) for value in (7, "", ["x"], {"x": 1}, "x" * 300)),
        Forged(headed().body, headers={"task": "inventory.reserve_stock"}),
        *(headed(eta=value) for value in ("tomorrow", 7, "9999-12-31T23:59:59+00:00", "2024-01-01T00:00:00")),
        *(headed(expires=value) for value in ("never", 7)),
        *(headed(timelimit=value) for value in ("x", 7, ["a", "b"], [-1, -1], [0.001, 0.001])),
        *(headed(retries=value) for value in ("many", -1, 10**9)),
        *(headed(**{name: 7}) for name in ("group", "shadow", "stamps", "stamped_headers", "argsrepr", "root_id")),
        *(Forged(one.body, UNDECODABLE, one.headers) for one in compressed),
        Forged(bomb, UNDECODABLE, compressed[1].headers),
        headed(eta=(datetime.now(UTC) + timedelta(hours=23)).isoformat()),
        *map(bodied, bodies),
        bodied(b"[" * 200_000 + b"]" * 200_000),
        bodied(b'[[], {"saga_id": ' + b"9" * 5000 + b"}, {}]"),
        bodied(b'[[], {"saga_id": "' + b"x" * 2_000_000 + b'"}, {}]'),
    ]


def misdirected(queue: str) -> list[Forged]:
    """Return tasks of ours with arguments, or with a following, that they cannot have."""
    step = {"orders": "create_order", "inventory": "reserve_stock", "payments": "process_payment"}.get(queue)
    name = f"{queue}.{step}" if step else "shipping.arrange_shipping"
    follow = [signature(name, saga_id=7)]
    return [
        task(name),
        task(name, NOBODY),
        task(name, saga_id=NOBODY, amount=1),
        *(task(name, saga_id=value) for value in (7, None, True, ["x"], {"x": 1}, "x" * 100_000)),
        *(task(name, saga_id=NOBODY, embed={part: "x"}) for part in ("chain", "callbacks", "errbacks", "chord")),
        *(task(name, saga_id=NOBODY, embed={part: [7]}) for part in ("chain", "callbacks", "errbacks")),
        task(name, saga_id=NOBODY, embed={"chain": follow}),
        task(name, saga_id=NOBODY, embed=7),
        task("orchestrator.request_compensation"),
        task("orchestrator.sweep", now=1),
        task("notifications.notify_customer", saga_id=NOBODY),
    ]


def false(queue: str) -> list[Forged]:
    """Return tasks of ours that are in order, about what does not exist."""
    step, unknown = "payments.process_payment", signature(f"{queue}.fly", saga_id=NOBODY)
    ids = (NOBODY, "no uuid", "\0")
    listeners = {"payments.refund_on_failure": NO_SAGA, "notifications.notify_customer": NO_EVENT}
    return [
        *(task(step, saga_id=saga_id, says=NO_SAGA) for saga_id in (*ids, "", "\ud800")),
        task(step, saga_id=NOBODY, says=NO_SAGA, embed={"chain": [unknown], "errbacks": [unknown]}),
        *(task(name, saga_id=NOBODY, event_id=id_, says=says) for name, says in listeners.items() for id_ in ids),
        *(task("orchestrator.request_compensation", saga_id=saga_id, says=NO_SAGA) for saga_id in (NOBODY, "\0")),
    ]


def about(saga_id: str, event_id: str) -> list[Forged]:
    """Return tasks that would undo a saga that has ended well, if anybody believed them."""
    undo = [signature("payments.refund_payment", saga_id=saga_id), signature("payments.fly", saga_id=saga_id)]
    return [
        *(task(name, saga_id=saga_id, says="") for name in ("payments.refund_payment", "inventory.release_stock")),
        task("orchestrator.request_compensation", saga_id=saga_id, says=""),
        task("payments.process_payment", saga_id=saga_id, says="", embed={"chain": undo, "callbacks": undo}),
        task("payments.refund_on_failure", saga_id=saga_id, event_id=event_id, says=NO_EVENT),
    ]


INFO = {"exchange": "", "routing_key": "orders"}
PROPERTIES = {"delivery_tag": "x", "delivery_info": INFO, "body_encoding": "base64"}
ENVELOPE = {"body": "e30=", "headers": {}, "properties": PROPERTIES, "content-type": JSON, "content-encoding": "utf-8"}
CHANGES: list[dict[str, Any]] = [
    {"body": 7},
    {"body": "x"},
    {"headers": 7},
    {"properties": 7},
    {"properties": {**PROPERTIES, "delivery_info": {}}},
    {"properties": {**PROPERTIES, "delivery_tag": 7}},
    {"content-type": ["x"]},
]
NO_ENVELOPES = (
    *(b"garbage", b"9" * 5000, b"\xff\xfe", b"[" * 200_000, b"null", b"7", b"[]", b"{}", b'{"body": "x"}'),
    *(json.dumps({"__type__": kind, "__value__": 1}).encode() for kind in ("x", "bytes", list[str]())),
    b'{"body": "x", "properties": {}, "headers": {}}',
    *(json.dumps({**ENVELOPE, **change}).encode() for change in CHANGES),
)
"""What may lie in a Redis list and is no message at all."""


def push(connection: Connection, queue: str, item: bytes) -> Forged:
    """Lay an item into a queue's Redis list as it is."""
    channel: Any = connection.default_channel
    channel.client.lpush(queue, item)
    return Forged(item, NO_MESSAGE)


def put(connection: Connection, queue: str, message: Forged) -> None:
    """Lay a message into a queue as it is: no publisher looks at it."""
    channel: Any = connection.default_channel
    headers, kind, encoding = dict(message.headers or {}), message.content_type, message.content_encoding
    raw = channel.prepare_message(message.body, 0, kind, encoding, headers, {"delivery_mode": 2})
    channel.basic_publish(raw, exchange="", routing_key=queue)
