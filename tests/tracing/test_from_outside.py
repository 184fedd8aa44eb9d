"""What moves a saga from outside its tasks goes on with its trace, in a span that says what it was."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase

from app import runtime
from app.sagas import sagas
from durable_sagas.messaging.publisher import Message, Publisher
from durable_sagas.models import OutboxEntry, SagaInstance
from tests.testkit.messages import Clock, Post
from tests.testkit.shop import AUTHORIZED
from tests.tracing.conftest import Arrived
from tests.tracing.receiver import Seen
from tests.tracing.test_requests import ORDER, SPAN, TRACE, below, place

BOTH = pytest.mark.parametrize("pattern", ["orchestration", "choreography"])
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


@BOTH
@pytest.mark.parametrize(("moved", "ends"), [("saga re-driven", "completed"), ("saga overdue", "compensated")])
@pytest.mark.usefixtures("post")
def test_the_sweep_goes_on_with_what_was_lost_in_its_trace(
    client: FlaskClient,
    arrived: Arrived,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str,
    moved: str,
    ends: str,
) -> None:
    order(client, pattern)
    lose_what_was_sent(monkeypatch)
    # a step's deadline is after a second, that of a choreographed order after two
    clock.forward(5 if moved == "saga overdue" else {"orchestration": 0.5, "choreography": 1.5}[pattern])
    wake(SagaInstance, clock)

    sagas.sweep()
    span, branch = in_trace(arrived, moved)
    assert moved in span.events and went_through(branch, f"saga {ends}")


@BOTH
def test_a_cancellation_is_part_of_the_saga_s_trace_and_linked_to_its_request(
    client: FlaskClient, arrived: Arrived, post: Post, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    saga_id = order(client, pattern)
    lose_what_was_sent(monkeypatch)

    ask(client, saga_id, "cancel")
    asked, branch = in_trace(arrived, "saga asked to cancel")
    assert went_through(branch, "saga compensated")
    (request,) = [span for span in arrived() if span.name.startswith("POST") and span.trace == OTHER_TRACE]
    assert asked.links == [OTHER_TRACE] and request.links == [TRACE]


@BOTH
@pytest.mark.parametrize(("act", "body"), [("resume", None), ("skip", {"by": "Ann"})])
def test_a_resumed_saga_goes_on_in_its_trace(
    client: FlaskClient, arrived: Arrived, pattern: str, act: str, body: Any
) -> None:
    saga_id = order(client, pattern, shipping="decline", payments="undo-fail:7")
    (told,) = [span for span in arrived() if "saga stuck" in span.events]
    assert told.failed and told.trace == TRACE

    ask(client, saga_id, act, body)
    _, branch = in_trace(arrived, f"saga asked to {act}")
    assert went_through(branch, "saga compensated")

    ask(client, saga_id, act, body, status=409)  # what is refused is no part of it
    assert len([span for span in arrived() if span.name == f"saga asked to {act}"]) == 1


def test_an_event_that_is_sent_again_is_sent_in_its_saga_s_trace(
    client: FlaskClient, arrived: Arrived, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Publisher.publish

    def all_but_notices(own: Publisher, message: Message) -> None:
        if message.task_name != "notifications.notify_customer":
            publish(own, message)

    with monkeypatch.context() as losing:
        losing.setattr(Publisher, "publish", all_but_notices)
        order(client, "choreography")
    wake(OutboxEntry, clock)

    assert sagas.sweep().resent == 1
    _, branch = in_trace(arrived, "event sent again")
    assert "run/notifications.notify_customer" in {span.name for span in branch}


def test_a_saga_from_before_there_were_traces_gets_one_when_it_is_moved(
    client: FlaskClient, arrived: Arrived, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = order(client, "orchestration")
    lose_what_was_sent(monkeypatch)
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).traceparent = None
    wake(SagaInstance, clock)

    sagas.sweep()
    (driven,) = [span for span in arrived() if span.name == "saga re-driven"]
    assert driven.parent == "" and driven.trace != TRACE
    assert went_through(below(driven, arrived()), "saga completed")
    with runtime.current().database.reading() as session:
        kept = session.get_one(SagaInstance, saga_id).traceparent or ""
    assert kept.startswith(f"00-{driven.trace}-{driven.id}-")


def order(client: FlaskClient, pattern: str, **simulate: str) -> str:
    body = {**ORDER, "pattern": pattern, "simulate": simulate}
    return place(client, body, traceparent=f"00-{TRACE}-{SPAN}-01")


def ask(client: FlaskClient, saga_id: str, act: str, body: Any = None, status: int = 202) -> None:
    headers = {**AUTHORIZED, "traceparent": f"00-{OTHER_TRACE}-{SPAN}-01"}
    answer = client.post(f"/api/v1/sagas/{saga_id}/{act}", json=body, headers=headers)
    assert answer.status_code == status, answer.text


def lose_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the post away, with what it holds: what is sent from now on arrives."""
    monkeypatch.undo()


def wake(table: type[DeclarativeBase], clock: Clock) -> None:
    with runtime.current().database.transaction() as session:
        session.execute(update(table).values(wake_at=clock()))


def in_trace(arrived: Arrived, name: str) -> tuple[Seen, list[Seen]]:
    """Return the one span of this name and what descends from it, having seen that it is in the request's trace."""
    spans = arrived()
    (found,) = [span for span in spans if span.name == name]
    (began,) = [span for span in spans if span.name.startswith("saga order")]
    assert (found.trace, found.parent) == (TRACE, began.id)
    return found, below(found, spans)


def went_through(branch: list[Seen], event: str) -> bool:
    return any(event in span.events for span in branch)
