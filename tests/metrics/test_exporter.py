"""A worker's own ``/metrics``."""

import os
from collections.abc import Iterator

import pytest
from flask import Flask

from app.observability.metrics import registry
from app.runtime import Runtime
from tests.metrics.scrapes import fetch, of, parse
from tests.testkit.processes import free_port


@pytest.fixture(autouse=True)
def closed_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_server", None)
    monkeypatch.setattr(registry, "_owner", 0)
    yield
    if registry._server:
        registry._server.shutdown()
        registry._server.server_close()


def test_a_port_that_is_taken_is_named_and_the_worker_goes_on(here: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    registry.serve("127.0.0.1", port)
    first = registry._server

    registry.serve("127.0.0.1", port)

    assert f"no metrics are served: METRICS_HOST=127.0.0.1, METRICS_PORT={port} cannot be used" in caplog.text
    assert registry._server is first


def test_a_child_of_the_pool_does_not_keep_its_parents_port(flask_app: Flask) -> None:
    port = free_port()
    registry.serve("127.0.0.1", port)
    assert registry._server
    listening = registry._server.fileno()

    child = os.fork()
    if not child:
        registry.close_inherited_port()
        try:
            os.fstat(listening)
        except OSError:
            os._exit(0)
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    registry.close_inherited_port()  # as Celery's solo pool has it called, which is no process of its own
    assert ("saga_started_total", frozenset({("type", "order"), ("pattern", "orchestration")})) in parse(fetch(port))
    assert of(parse(fetch(port)), "step_completed_total") >= 0
