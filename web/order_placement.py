"""Place orders for all interfaces: the API, the seeds' paths, GraphQL and the pages."""

from app.errors import RequestError
from web.api.requests import PlaceOrder, ShortOrder
from workflows import orders
from workflows.orders import NewOrder, PlacedOrder


def place(body: PlaceOrder | ShortOrder, order: NewOrder, idempotency_key: str | None) -> PlacedOrder:
    """Place the order of a request body; a refusal names the field as the client wrote it."""
    try:
        return orders.place(order, idempotency_key)
    except RequestError as refusal:
        if refusal.field:
            refusal.field = body.client_name(refusal.field)
        raise
