"""What is ordered in the simulation."""

from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.orders import Item, NewOrder, Pattern

ORCHESTRATED, PAYMENT_FIRST = "order", "order-payment-first"
CHOREOGRAPHED = ORDER_CHOREOGRAPHY.name
KINDS = (ORCHESTRATED, PAYMENT_FIRST, CHOREOGRAPHED)

PLENTY, SCARCE, SOLD_OUT = "book-789", "book-123", "book-456"
"""Books with ten, five and no copies."""

UNPAYABLE = "book-999999"
"""A book whose price the payment provider always declines."""


def an_order(number: int, kind: str, book: str = PLENTY, quantity: int = 1, **simulate: str) -> NewOrder:
    """Return the request for one order, under an id of its customer's own."""
    choreographed = kind == CHOREOGRAPHED
    return NewOrder(
        items=(Item(book, quantity),),
        pattern=Pattern.CHOREOGRAPHY if choreographed else Pattern.ORCHESTRATION,
        saga_type=None if choreographed else kind,
        simulate=tuple(sorted(simulate.items())),
        order_id=f"order-{number}",
    )
