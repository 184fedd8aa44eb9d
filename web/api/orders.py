"""Orders: ``/api/v1/orders``."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from web import problems
from web.api import responses, serializers
from web.api.requests import ChangeOrder, IdempotencyHeader, OrderPath, OrdersQuery, PlaceOrder
from web.api.responses import json_response
from web.order_placement import place
from web.problem_types import OVERLOADED
from workflows import orders
from workflows.read_side import queries

api = APIBlueprint(
    "orders",
    __name__,
    url_prefix="/api/v1/orders",
    abp_tags=[Tag(name="Orders", description="Place an order in either pattern, and see what becomes of it.")],
)


@api.post("", responses={202: responses.StartedReply, **problems.responses(403, 409, 413, 415, unavailable=OVERLOADED)})
def place_order(header: IdempotencyHeader, body: PlaceOrder) -> Response:
    """Place an order: it is stored and its saga is started; the response does not wait for the saga to end."""
    placed = place(body, body.to_order(), header.key)
    return json_response(serializers.started(placed), 202, location=f"/api/v1/orders/{placed.order_id}")


@api.get("", responses={200: responses.OrdersReply, **problems.responses()})
def list_orders(query: OrdersQuery) -> Response:
    """List orders, newest first."""
    return json_response(serializers.orders(query.page()))


@api.get("/<order_id>", responses={200: responses.OrderReply, **problems.responses(404)})
def get_order(path: OrderPath) -> Response:
    """Show an order with its payment, its shipment and its saga's status."""
    return json_response(serializers.order(queries.order(path.order_id)))


@api.patch("/<order_id>", responses={200: responses.OrderReply, **problems.responses(404, 409, 413, 415)})
def change_order(path: OrderPath, body: ChangeOrder) -> Response:
    """Change the shipping address of an order, as long as it is not being shipped."""
    orders.change_address(path.order_id, body.shipping_address)
    return json_response(serializers.order(queries.order(path.order_id)))


@api.delete("/<order_id>", responses={202: responses.CancelReply, **problems.responses(404, 409)})
def cancel_order(path: OrderPath) -> Response:
    """Request that an order be cancelled. Its cancel_decision shows whether that came before the carrier was booked."""
    return json_response(serializers.cancelled(orders.cancel(path.order_id)), 202)


@api.get("/<order_id>/events", responses={200: responses.EventsReply, **problems.responses(404)})
def list_events(path: OrderPath) -> Response:
    """List the events of an order, in the order in which the services published them."""
    events = queries.events_of(path.order_id)
    return json_response(responses.EventsReply.of(order_id=path.order_id, events=events))
