"""The paths that seeds 001, 002 and 004 write: short, in camelCase, one book per order."""

from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.saga import operations
from web import presenters, problems, replies
from web.placing import place
from web.replies import answer
from web.schemas import IdempotencyHeader, OrderPath, ShortOrder
from workflows import ordering, queries
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER_PAYMENT_FIRST

api = APIBlueprint(
    "short_paths",
    __name__,
    abp_tags=[Tag(name="Short paths", description="The seeds' own: /orders is choreographed, /saga orchestrated.")],
)


@api.post("/orders", responses={202: replies.CamelStartedReply, **problems.responses(400, 403, 409, 413, 415)})
def place_choreographed(header: IdempotencyHeader, body: ShortOrder) -> Response:
    """Place an order of one book as a choreographed saga."""
    return _place(body, ORDER_CHOREOGRAPHY.name, header.key, "/orders/{}")


@api.get("/orders/<order_id>", responses={200: replies.CamelOrderReply, **problems.responses(404)})
def show_order(path: OrderPath) -> Response:
    """Show an order; somebody who browses is sent to its page."""
    view = queries.order(path.order_id)
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = Response(status=303)
        response.headers["Location"] = url_for("pages.saga.show", saga_id=view.saga.id)
    else:
        response = answer(replies.CamelOrderReply.model_validate(presenters.order(view)))
    response.vary.add("Accept")
    return response


@api.post("/saga/start", responses={202: replies.CamelStartedReply, **problems.responses(400, 403, 409, 413, 415)})
def start_saga(header: IdempotencyHeader, body: ShortOrder) -> Response:
    """Place an order of one book as an orchestrated saga that takes the money first."""
    return _place(body, ORDER_PAYMENT_FIRST.name, header.key, "/saga/{}/status")


@api.get("/saga/<order_id>/status", responses={200: replies.SagaStatusReply, **problems.responses(404)})
def show_status(path: OrderPath) -> Response:
    """Show where the saga of an order stands."""
    return answer(presenters.short_status(queries.order(path.order_id).saga))


@api.post("/saga/<order_id>/cancel", responses={202: replies.CamelCancelReply, **problems.responses(404, 409)})
def cancel_saga(path: OrderPath) -> Response:
    """Have the saga of an order undone. Too late once the carrier is booked."""
    cancelled = presenters.cancelled(ordering.cancel(path.order_id))
    return answer(replies.CamelCancelReply.model_validate(cancelled), 202)


@api.get("/saga/<order_id>/history", responses={200: replies.SagaHistoryReply, **problems.responses(404)})
def show_history(path: OrderPath) -> Response:
    """Show the states that the saga of an order went through, and every step's reply."""
    return answer(presenters.short_history(queries.saga(operations.saga_of(path.order_id))))


def _place(body: ShortOrder, saga_type: str, idempotency_key: str | None, place_of: str) -> Response:
    placed = place(body, body.to_order(saga_type), idempotency_key)
    started = replies.CamelStartedReply.model_validate(presenters.started(placed))
    return answer(started, 202, location=place_of.format(placed.order_id))
