"""Sagas: ``/api/v1/sagas``, and those that are stuck on one step: ``/api/v1/stuck-sagas``."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.sagas import sagas
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import SagaInstance
from web import cursors, problems
from web.api import responses, serializers
from web.api.requests import ByHand, ResumeQuery, SagaPath, SagasQuery
from web.api.responses import json_response
from web.auth.operators import for_operators, name_of_program
from workflows.read_side import queries

api = APIBlueprint(
    "sagas",
    __name__,
    url_prefix="/api/v1",
    abp_tags=[Tag(name="Sagas", description="Inspect, cancel and resume sagas.")],
)


@api.get("/sagas", responses={200: responses.SagasReply, **problems.responses()})
def list_sagas(query: SagasQuery) -> Response:
    """List sagas, newest first."""
    page = query.page()
    return json_response(
        responses.SagasReply(sagas=tuple(map(serializers.saga, page.rows)), next_cursor=cursors.next_cursor(page))
    )


@api.get("/sagas/<saga_id>", responses={200: responses.SagaReply, **problems.responses(404)})
def get_saga(path: SagaPath) -> Response:
    """Show a saga's state and its context."""
    return json_response(serializers.saga(queries.saga(path.saga_id).saga))


@api.get("/sagas/<saga_id>/history", responses={200: responses.HistoryReply, **problems.responses(404)})
def get_history(path: SagaPath) -> Response:
    """Show a saga's actions and compensations, with every failed attempt."""
    return json_response(serializers.saga_history(queries.saga(path.saga_id)))


@for_operators(
    api.post, "/sagas/<saga_id>/cancel", {202: responses.CancelRequestedReply, **problems.responses(404, 409)}
)
def cancel_saga(path: SagaPath) -> Response:
    """Request that a saga be compensated. The saga's cancel_decision shows whether that came in time."""
    return _accepted(sagas.cancel(path.saga_id, by=name_of_program()), responses.CancelRequestedReply)


@for_operators(api.post, "/sagas/<saga_id>/resume", {202: responses.AskedReply, **problems.responses(404, 409)})
def resume_saga(path: SagaPath) -> Response:
    """Resume a stuck saga at its current step, or re-drive an unfinished one."""
    return _accepted(sagas.resume(path.saga_id, by=name_of_program()))


@for_operators(api.post, "/sagas/<saga_id>/skip", {202: responses.AskedReply, **problems.responses(404, 409, 413, 415)})
def skip_compensation(path: SagaPath, body: ByHand) -> Response:
    """Skip a stuck compensation that was done manually outside the system; its history records who confirmed that."""
    completion = ManualCompletion(by=body.by, note=body.note, step=body.step)
    return _accepted(sagas.skip(path.saga_id, completion))


@for_operators(api.post, "/stuck-sagas/resume", {202: responses.ResumedReply, **problems.responses()})
def resume_stuck_sagas(query: ResumeQuery) -> Response:
    """Resume the sagas that are stuck on one step, one batch per request."""
    after = cursors.uuid_position(query.cursor)
    done = sagas.resume_stuck(query.step, by=name_of_program(), after=after, limit=query.limit)
    return json_response(serializers.resumed(done), 202)


def _accepted(saga: SagaInstance, reply: type[responses.AskedReply] = responses.AskedReply) -> Response:
    return json_response(reply.of(saga, saga_id=saga.id), 202)
