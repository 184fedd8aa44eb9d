"""Tracing in the tests' own process, to a collector on loopback."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from app import runtime
from app.observability import tracing
from app.runtime import Runtime
from tests.tracing.receiver import Receiver, Seen, receiving

Arrived = Callable[[], list[Seen]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def traced(here: Runtime, receiver: Receiver) -> Iterator[Receiver]:
    """A collector that takes this process's traces while the test runs; ``arrived`` has them sent."""
    here.settings = here.settings.but(otel_exporter_otlp_endpoint=receiver.url)
    tracing.start(runtime.current().settings, "tests")
    yield receiver
    tracing.stop()


@pytest.fixture
def flask_app(traced: Receiver, flask_app: Flask) -> Flask:
    """The app, made where tracing is on already."""
    return flask_app


@pytest.fixture
def arrived(traced: Receiver) -> Arrived:
    """What this process's spans are, once all that ended so far have been sent."""

    def look() -> list[Seen]:
        provider = tracing.provider()
        assert provider is not None
        provider.force_flush()
        return traced.spans

    return look
