"""In one process: the last spans are sent when it is asked to end, and without a collector nothing is imported."""

import signal
import subprocess
import sys
from pathlib import Path

from app.runtime import Runtime
from app.settings import ROOT
from tests.testkit.processes import free_port, listens, process_environment, running
from tests.testkit.shop import Shop, http_transport
from tests.tracing.receiver import Receiver


def test_a_saga_in_one_process_has_one_trace(here: Runtime, receiver: Receiver, tmp_path: Path) -> None:
    settings = here.settings.but(
        otel_exporter_otlp_endpoint=receiver.url, port=free_port(), step_timeout_seconds=30, stall_seconds=20
    )
    environment = {**process_environment(settings), "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    command = [sys.executable, "-m", "app", "run"]
    with running(command, environment, tmp_path / "log", lambda: listens(settings.port)) as process:
        shop = Shop(http_transport(f"http://127.0.0.1:{settings.port}"), here)
        saga_id = shop.order("book-123", simulate={"payments": "fail:1", "shipping": "decline"})["saga_id"]
        assert shop.settle(saga_id)["status"] == "compensated"
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    (trace,) = {span.trace for span in receiver.spans if span.attributes.get("saga.id") == saga_id}
    told = {name for span in receiver.of(trace) for name in span.events}
    assert told >= {"saga started", "step to be retried", "step failed", "saga turned back", "saga compensated"}
    assert {span.service for span in receiver.spans} == {"cloudmart"}
    (root,) = [span for span in receiver.of(trace) if not span.parent]
    assert root.name == "POST /api/v1/orders"


PLACES_AN_ORDER = """
import sys
from app.celery import app as celery
from web import create_app
client = create_app().test_client()
celery.conf.task_always_eager = True
order = {"customer_id": "customer-001", "items": [{"product_id": "book-123", "quantity": 1}]}
saga_id = client.post("/api/v1/orders", json=order).get_json()["saga_id"]
print(client.get(f"/api/v1/sagas/{saga_id}").get_json()["status"])
tracers = ("opentelemetry", "app.observability.tracing.live", "durable_sagas.tracing")
print([name for name in sys.modules if name.startswith(tracers)])
"""


def test_a_process_that_is_not_traced_does_not_even_import_what_traces(here: Runtime) -> None:
    environment = process_environment(here.settings)
    ran = subprocess.run(
        [sys.executable, "-c", PLACES_AN_ORDER], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-2:] == ["completed", "[]"]
