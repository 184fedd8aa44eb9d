"""Without a collector there is no tracing: not in memory, and not on the way of any message."""

import subprocess
import sys

from app.database import after_commit
from app.observability import tracing
from app.runtime import Runtime
from app.settings import ROOT
from tests.testkit.processes import process_environment

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


def test_what_is_registered_for_after_the_commit_is_called_as_it_is(here: Runtime) -> None:
    def callback() -> None:
        """Do nothing."""

    with here.database.transaction() as session:
        after_commit(session, callback)
        assert session.info["after_commit"] == [callback]
    assert tracing.current_trace_id() is None and tracing.provider() is None
