"""The order as an orchestrated saga: one conductor tells each service what to do, and what to undo.

Each step reads from left to right: the action, the compensation that undoes it, and what is special about it. A failing
step is undone too, because a gateway that did not answer may have done what it was asked.
"""

from app.saga.definition import Saga, Step, after
from app.saga.orchestrator import orchestrated
from tasks import inventory, orders, payments, shipping

ORDER_CREATED, STOCK_RESERVED, PAYMENT_COMPLETED = "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED"

ORDER = orchestrated(
    Saga(
        "order",
        Step(orders.create_order, orders.cancel_order, reaches=ORDER_CREATED),
        Step(inventory.reserve_stock, inventory.release_stock, reaches=STOCK_RESERVED),
        Step(
            payments.process_payment, payments.refund_payment, reaches=PAYMENT_COMPLETED, guard=after("reserve_stock")
        ),
        Step(shipping.arrange_shipping, shipping.cancel_shipment, pivot=True, guard=after("process_payment")),
        Step(inventory.ship_stock),
        Step(orders.complete_order),
    )
)

ORDER_PAYMENT_FIRST = orchestrated(
    Saga(
        "order-payment-first",
        Step(orders.create_order, orders.cancel_order, reaches=ORDER_CREATED),
        Step(payments.process_payment, payments.refund_payment, reaches=PAYMENT_COMPLETED),
        Step(inventory.reserve_stock, inventory.release_stock, reaches=STOCK_RESERVED, guard=after("process_payment")),
        Step(shipping.arrange_shipping, shipping.cancel_shipment, pivot=True, guard=after("reserve_stock")),
        Step(inventory.ship_stock),
        Step(orders.complete_order),
    )
)
