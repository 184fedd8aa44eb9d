"""Sagas: ``/api/v1/sagas``."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.saga import operations
from web import cursors, presenters, problems, replies
from web.replies import answer
from web.schemas import SagaPath, SagasQuery
from workflows import queries

api = APIBlueprint(
    "sagas",
    __name__,
    url_prefix="/api/v1/sagas",
    abp_tags=[Tag(name="Sagas", description="Watch sagas, have them undone, set stuck ones moving again.")],
)


@api.get("", responses={200: replies.SagasReply, **problems.responses()})
def list_sagas(query: SagasQuery) -> Response:
    """List sagas, newest first."""
    page = queries.sagas(
        status=query.status,
        saga_type=query.saga_type,
        after=cursors.uuid_position(query.cursor),
        limit=query.limit,
    )
    return answer(
        replies.SagasReply(
            sagas=tuple(map(presenters.saga, page.rows)),
            next_cursor=cursors.encode(page.rows[-1].id) if page.more else None,
        )
    )


@api.get("/<saga_id>", responses={200: replies.SagaReply, **problems.responses(404)})
def get_saga(path: SagaPath) -> Response:
    """Show where a saga stands and what it works with."""
    return answer(presenters.saga(queries.saga(path.saga_id).saga))


@api.get("/<saga_id>/history", responses={200: replies.HistoryReply, **problems.responses(404)})
def get_history(path: SagaPath) -> Response:
    """Show what a saga did and undid, with every failed attempt."""
    return answer(presenters.saga_history(queries.saga(path.saga_id)))


@api.post("/<saga_id>/cancel", responses={202: replies.AskedReply, **problems.responses(404, 409)})
def cancel_saga(path: SagaPath) -> Response:
    """Have a saga undone. Too late past its point of no return."""
    return answer(presenters.asked(operations.cancel(path.saga_id)), 202)


@api.post("/<saga_id>/resume", responses={202: replies.AskedReply, **problems.responses(404, 409)})
def resume_saga(path: SagaPath) -> Response:
    """Set a stuck saga moving again where it stands, or drive on one that is unfinished."""
    return answer(presenters.asked(operations.resume(path.saga_id)), 202)
