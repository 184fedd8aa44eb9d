"""Place orders for all interfaces: the API, the seeds' paths, GraphQL and the pages."""

from typing import Protocol

from app.errors import RequestError
from workflows import orders
from workflows.orders import NewOrder, PlacedOrder


class OrderBody(Protocol):
    """The body of a request for an order."""

    def client_name(self, field: str) -> str:
        """Return the client's name of a field."""


def place(body: OrderBody, order: NewOrder, idempotency_key: str | None) -> PlacedOrder:
    """Place the order of a request body; a refusal names the field as the client wrote it."""
    try:
        return orders.place(order, idempotency_key)
    except RequestError as refusal:
        if refusal.field:
            refusal.field = body.client_name(refusal.field)
        raise
