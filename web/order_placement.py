"""Placing an order for whichever path it came by."""

from typing import Protocol

from app.errors import Refused
from workflows import orders
from workflows.orders import NewOrder, PlacedOrder


class OrderBody(Protocol):
    """The body of a request for an order."""

    def client_name(self, field: str) -> str:
        """Return what the client called a field."""


def place(body: OrderBody, order: NewOrder, idempotency_key: str | None) -> PlacedOrder:
    """Place the order that a body asks for; a refusal names the field as the client wrote it."""
    try:
        return orders.place(order, idempotency_key)
    except Refused as refusal:
        if refusal.field:
            refusal.field = body.client_name(refusal.field)
        raise
