"""The engine's tests run on a saga of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.transport.memory import Channel
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.celery import app as celery
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import Sagas
from tests.engine import trip
from tests.engine.wire import Wire


@pytest.fixture
def agency(here: Runtime) -> Iterator[None]:
    with trip.agency():
        yield


@pytest.fixture
def wire(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Hold back every message as it reaches the broker."""
    wire = Wire()
    monkeypatch.setitem(celery.conf, "task_always_eager", False)
    monkeypatch.setitem(celery.conf, "task_publish_retry", False)  # it waits for real between two tries
    monkeypatch.setattr(Channel, "_put", wire.put)  # where kombu's memory transport would keep it for its workers
    monkeypatch.setattr(sagas.engine.batches, "_cooldown_until", {})  # what other tests could not do together
    return wire


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator["sessionmaker[Session]"]:
    """The sessions of an application that is not CloudMart."""
    engine = create_engine(f"sqlite:///{tmp_path}/host.db")
    Sagas.metadata.create_all(engine)
    yield sessionmaker(engine)
    engine.dispose()
