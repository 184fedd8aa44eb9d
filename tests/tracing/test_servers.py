"""One trace per saga across gunicorn, prefork workers, RabbitMQ and PostgreSQL, each a process of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kombu import Queue

from app.celery import app as celery
from tests.testkit.processes import role_commands, roles
from tests.testkit.servers import connection_to
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from tests.tracing.receiver import Receiver, Seen, receiving
from workflows import QUEUES

pytestmark = pytest.mark.timeout(300)  # the first test pays for all that runs

ADDRESS = "9 Sakura Street"
PATTERNS = ("orchestration", "choreography")


@dataclass
class Ran:
    """What ran on the servers, and what a collector got of it once all of them had ended."""

    receiver: Receiver
    retried: dict[str, str]
    undone: dict[str, str]
    lost: str
    statuses: dict[str, str]

    def trace(self, saga_id: str) -> list[Seen]:
        """Return a saga's trace, having seen that nothing of the saga is in any other."""
        (trace,) = {span.trace for span in self.receiver.spans if span.attributes.get("saga.id") == saga_id}
        return self.receiver.of(trace)


@pytest.fixture(scope="module")
def ran(seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("traced")
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        # nothing is sent on the way, unless there is much of it: what arrives was sent when its process ended
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        patient = {"step_timeout_seconds": 40, "order_timeout_seconds": 60}
        changes = {**patient, "absent": "shipping", "otel_exporter_otlp_endpoint": receiver.url}
        with open_shop("postgresql+rabbitmq", seeded_database, folder, **changes) as shop:
            ran = _run(shop, receiver, folder)
        yield ran


def _run(shop: Shop, receiver: Receiver, folder: Path) -> Ran:
    book, settings = shop.add_book(stock=20), shop.here.settings
    lost = shop.order(book)["saga_id"]
    with connection_to(settings.broker_url) as connection:  # its message is taken out of the queue that nobody works on
        shop.wait_for(Queue("shipping")(connection.default_channel).purge, lambda purged: purged > 0)
    with roles({"shipping": role_commands(settings)["shipping"]}, settings, folder):
        statuses = {lost: shop.settle(lost)["status"]}
        with connection_to(settings.broker_url) as connection:  # once more, from this process, which traces nothing
            celery.send_task("payments.process_payment", kwargs={"saga_id": lost}, connection=connection)

        def order(pattern: str, **simulate: str) -> str:
            said = shop.order(book, pattern=pattern, simulate=simulate, shipping_address=ADDRESS)
            return str(said["saga_id"])

        retried = {pattern: order(pattern, payments="fail:1") for pattern in PATTERNS}
        undone = {pattern: order(pattern, shipping="decline") for pattern in PATTERNS}
        statuses |= {saga_id: shop.settle(saga_id)["status"] for saga_id in [*retried.values(), *undone.values()]}
    return Ran(receiver, retried, undone, lost, statuses)


def test_each_saga_s_trace_has_the_request_as_its_one_root(ran: Ran) -> None:
    for saga_id in ran.statuses:
        trace = ran.trace(saga_id)
        known = {span.id for span in trace}
        (root,) = [span for span in trace if span.parent not in known]
        assert (root.service, root.name, root.parent) == ("web", "POST /api/v1/orders", "")


def test_every_role_speaks_under_its_own_name_and_tells_nobody_s_data_and_no_idle_sweep(ran: Ran) -> None:
    spans = ran.receiver.spans
    assert {span.service for span in spans} == {"web", *QUEUES}
    for span in spans:
        if span.name.startswith("run/"):
            assert span.service == span.name.removeprefix("run/").partition(".")[0]
    assert {"POST /api/v1/orders", "SELECT saga_instances"} <= {span.name for span in spans}
    assert not any(ADDRESS.encode() in body or b"sweep" in body for body in ran.receiver.raw)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_step_and_its_repetition_is_a_span(ran: Ran, pattern: str) -> None:
    saga_id = ran.retried[pattern]
    assert ran.statuses[saga_id] == "completed"

    trace = ran.trace(saga_id)
    done = {
        span.attributes["step"] for span in trace if "step completed" in span.events and span.has(operation="action")
    }
    created = any(span.events.get("step completed", {}).get("step") == "create_order" for span in trace)
    assert created and done >= {"reserve_stock", "process_payment", "arrange_shipping", "complete_order"}
    first, second = [
        next(span for span in trace if span.has(step="process_payment", operation="action", attempt=attempt))
        for attempt in (1, 2)
    ]
    assert first.service == second.service == "payments"
    assert "step to be retried" in first.events and "step completed" in second.events
    assert not first.failed and not second.failed
    assert first.has(saga_id=saga_id, saga_pattern=pattern) and first.attributes["order.id"]
    assert any("saga completed" in span.events for span in trace)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_failure_and_every_compensation_can_be_read_off(ran: Ran, pattern: str) -> None:
    saga_id = ran.undone[pattern]
    assert ran.statuses[saga_id] == "compensated"

    trace = ran.trace(saga_id)
    (failed,) = [span for span in trace if span.failed]
    assert failed.service == "shipping" and failed.has(step="arrange_shipping", operation="action", attempt=1)
    assert failed.events["step failed"]["reason"] == "declined, as simulated"
    undone = {span.name for span in trace if span.has(operation="compensation") and "step completed" in span.events}
    assert undone >= {"compensate/process_payment", "compensate/reserve_stock", "compensate/create_order"}
    assert any("saga turned back" in span.events for span in trace)
    assert any("saga compensated" in span.events for span in trace)


def test_a_saga_whose_message_was_lost_goes_on_in_its_trace(ran: Ran) -> None:
    assert ran.statuses[ran.lost] == "completed"

    trace = ran.trace(ran.lost)
    (began,) = [span for span in trace if span.name == "saga order"]
    driven = [span for span in trace if span.name == "saga re-driven"]
    # a message without a trace joins its saga's
    assert [span for span in trace if span.name == "run/payments.process_payment" and span.parent == began.id]
    assert driven and all((span.service, span.parent) == ("orchestrator", began.id) for span in driven)
    (shipped,) = [span for span in trace if span.has(step="arrange_shipping") and "step completed" in span.events]
    sent = next(span for span in trace if span.id == shipped.parent)
    assert sent.parent in {span.id for span in driven}
