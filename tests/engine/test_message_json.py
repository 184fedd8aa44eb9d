"""Messages are read as kombu would read them, and what is written here anybody who reads JSON can read."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from kombu import serialization
from kombu.exceptions import DecodeError
from kombu.utils import json as kombus

from durable_sagas.messaging.serialization import SERIALIZER, read

VALUES: list[Any] = [
    [[], {"saga_id": "é\u2028\U0001f600\0"}, {"callbacks": None, "chain": [{"immutable": True, "args": []}]}],
    [1, -1.5, 2**70, None, False, "", {}],
    {"a __type__": "__type__"},
]
MARKED: list[Any] = [
    {"at": datetime(2026, 11, 27, tzinfo=UTC)},
    [Decimal("12.50"), UUID(int=7)],
    {"__type__": {}},
]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_written_is_plain_json(value: Any) -> None:
    content_type, encoding, written = serialization.dumps(value, serializer=SERIALIZER)
    assert (content_type, encoding) == ("application/json", "utf-8")
    assert json.loads(written) == value
    assert serialization.loads(written, content_type, encoding, accept={"application/json"}) == value


@pytest.mark.parametrize(
    "form", [str, str.encode, lambda text: bytearray(text.encode()), lambda t: memoryview(t.encode())]
)
@pytest.mark.parametrize("value", [*VALUES, *MARKED])
def test_what_kombu_writes_is_read_as_kombu_reads_it(form: Any, value: Any) -> None:
    written = kombus.dumps(value)
    assert read(form(written)) == kombus.loads(written)


@pytest.mark.parametrize("written", [b"{", b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000, b"[1] 2", b"no", b'"\\ud800"'])
def test_what_is_no_json_cannot_be_decoded(written: bytes) -> None:
    with pytest.raises(DecodeError):
        serialization.loads(written, "application/json", "utf-8")
