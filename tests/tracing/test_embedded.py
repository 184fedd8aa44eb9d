"""``python -m app run``, all of it in one process, sends its last spans when it is asked to end."""

import signal
import subprocess
import sys

from app.runtime import Runtime
from app.settings import ROOT
from tests.testkit.processes import free_port, process_environment
from tests.testkit.shop import Shop, http_transport
from tests.tracing.receiver import Receiver


def test_a_saga_in_one_process_has_one_trace(here: Runtime, receiver: Receiver) -> None:
    settings = here.settings.but(
        otel_exporter_otlp_endpoint=receiver.url, port=free_port(), step_timeout_seconds=30, stall_seconds=20
    )
    environment = {**process_environment(settings), "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    command = [sys.executable, "-m", "app", "run"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            shop = Shop(http_transport(f"http://127.0.0.1:{settings.port}"), here)
            shop.wait_for(lambda: answers(shop), bool)
            saga_id = shop.order("book-123", simulate={"payments": "fail:1", "shipping": "decline"})["saga_id"]
            assert shop.settle(saga_id)["status"] == "compensated"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    (trace,) = {span.trace for span in receiver.spans if span.attributes.get("saga.id") == saga_id}
    told = {name for span in receiver.of(trace) for name, _ in span.events}
    assert told >= {"saga started", "step to be retried", "step failed", "saga turned back", "saga compensated"}
    assert {span.service for span in receiver.spans} == {"cloudmart"}
    (root,) = [span for span in receiver.of(trace) if not span.parent]
    assert root.name == "POST /api/v1/orders"


def answers(shop: Shop) -> bool:
    try:
        return shop.get("/healthz").status == 200
    except OSError:
        return False
