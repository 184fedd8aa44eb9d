"""The paths of seeds 001, 002 and 004: short, in camelCase, one book per order."""

from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.sagas import sagas
from web import problems
from web.api import responses, seed_forms, serializers
from web.api.requests import ChangeShortOrder, IdempotencyHeader, OrderPath, ShortOrder, ShortOrdersQuery
from web.api.responses import json_response
from web.order_placement import place
from web.problem_types import OVERLOADED
from workflows import orders
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER_PAYMENT_FIRST
from workflows.read_side import queries

api = APIBlueprint(
    "short_paths",
    __name__,
    abp_tags=[Tag(name="Short paths", description="The seeds' own: /orders is choreographed, /saga orchestrated.")],
)


@api.post(
    "/orders",
    responses={202: responses.CamelStartedReply, **problems.responses(403, 409, 413, 415, unavailable=OVERLOADED)},
)
def place_choreographed(header: IdempotencyHeader, body: ShortOrder) -> Response:
    """Place an order of one book as a choreographed saga."""
    return _place(body, ORDER_CHOREOGRAPHY.name, header.key, "/orders/{}")


@api.get("/orders", responses={200: responses.CamelOrdersReply, **problems.responses()})
def list_orders(query: ShortOrdersQuery) -> Response:
    """List orders, newest first; browsers are redirected to the page that lists their sagas."""
    listed = responses.CamelOrdersReply.model_validate(serializers.orders(query.page()))
    return _for_browsers(url_for("pages.sagas.index"), listed)


@api.get("/orders/<order_id>", responses={200: responses.CamelOrderReply, **problems.responses(404)})
def show_order(path: OrderPath) -> Response:
    """Show an order; browsers are redirected to its page."""
    view = queries.order(path.order_id)
    shown = responses.CamelOrderReply.model_validate(serializers.order(view))
    return _for_browsers(url_for("pages.saga.show", saga_id=view.saga.id), shown)


@api.patch("/orders/<order_id>", responses={200: responses.CamelOrderReply, **problems.responses(404, 409, 413, 415)})
def change_order(path: OrderPath, body: ChangeShortOrder) -> Response:
    """Change the shipping address of an order, as long as it is not being shipped."""
    orders.change_address(path.order_id, body.shipping_address)
    return json_response(responses.CamelOrderReply.model_validate(serializers.order(queries.order(path.order_id))))


@api.delete("/orders/<order_id>", responses={202: responses.CamelCancelReply, **problems.responses(404, 409)})
def cancel_order(path: OrderPath) -> Response:
    """Request that an order be cancelled. Its cancelDecision shows whether that came before the carrier was booked."""
    return _cancel(path.order_id)


@api.get("/orders/<order_id>/events", responses={200: responses.FlatEventsReply, **problems.responses(404)})
def list_events(path: OrderPath) -> Response:
    """List the events of an order, in the flat form of seeds 002 and 004."""
    return json_response(seed_forms.flat_events(path.order_id, queries.events_of(path.order_id)))


@api.post(
    "/saga/start",
    responses={202: responses.CamelStartedReply, **problems.responses(403, 409, 413, 415, unavailable=OVERLOADED)},
)
def start_saga(header: IdempotencyHeader, body: ShortOrder) -> Response:
    """Place an order of one book as an orchestrated saga that takes the payment first."""
    return _place(body, ORDER_PAYMENT_FIRST.name, header.key, "/saga/{}/status")


@api.get("/saga/<order_id>/status", responses={200: responses.SagaStatusReply, **problems.responses(404)})
def show_status(path: OrderPath) -> Response:
    """Show the status of an order's saga."""
    return json_response(serializers.short_status(queries.saga(sagas.saga_of(path.order_id))))


@api.post("/saga/<order_id>/cancel", responses={202: responses.CamelCancelReply, **problems.responses(404, 409)})
def cancel_saga(path: OrderPath) -> Response:
    """Request that an order's saga be compensated. Its status shows whether that came before the carrier was booked."""
    return _cancel(path.order_id)


@api.get("/saga/<order_id>/history", responses={200: responses.SagaHistoryReply, **problems.responses(404)})
def show_history(path: OrderPath) -> Response:
    """Show the states that an order's saga has reached, and every step's reply."""
    return json_response(serializers.short_history(queries.saga(sagas.saga_of(path.order_id))))


def _place(body: ShortOrder, saga_type: str, idempotency_key: str | None, place_of: str) -> Response:
    placed = place(body, body.to_order(saga_type), idempotency_key)
    started = responses.CamelStartedReply.model_validate(serializers.started(placed))
    return json_response(started, 202, location=place_of.format(placed.order_id))


def _cancel(order_id: str) -> Response:
    return json_response(responses.CamelCancelReply.model_validate(serializers.cancelled(orders.cancel(order_id))), 202)


def _for_browsers(page: str, body: responses.ResponseModel) -> Response:
    """Return the body, or a redirect to the page if the client prefers HTML."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = Response(status=303)
        response.headers["Location"] = page
    else:
        response = json_response(body)
    response.vary.add("Accept")
    return response
