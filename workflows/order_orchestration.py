"""The order as an orchestrated saga: the orchestrator runs each step's action, and compensates in reverse on failure.

A step reads from left to right: its action, its compensation, and its options. The step that failed is compensated as
well, because a gateway that did not answer may still have processed the request.
"""

from app.sagas import sagas
from durable_sagas.definition import Step, after
from tasks import inventory, orders, payments, shipping

ORDER_CREATED, STOCK_RESERVED, PAYMENT_COMPLETED = "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED"

ORDER = sagas.saga(
    "order",
    Step(orders.create_order, orders.cancel_order, milestone=ORDER_CREATED),
    Step(inventory.reserve_stock, inventory.release_stock, milestone=STOCK_RESERVED),
    Step(payments.process_payment, payments.refund_payment, milestone=PAYMENT_COMPLETED, guard=after("reserve_stock")),
    Step(shipping.arrange_shipping, shipping.cancel_shipment, pivot=True, guard=after("process_payment")),
    Step(inventory.ship_stock),
    Step(orders.complete_order),
)

ORDER_PAYMENT_FIRST = sagas.saga(
    "order-payment-first",
    Step(orders.create_order, orders.cancel_order, milestone=ORDER_CREATED),
    Step(payments.process_payment, payments.refund_payment, milestone=PAYMENT_COMPLETED),
    Step(inventory.reserve_stock, inventory.release_stock, milestone=STOCK_RESERVED, guard=after("process_payment")),
    Step(shipping.arrange_shipping, shipping.cancel_shipment, pivot=True, guard=after("reserve_stock")),
    Step(inventory.ship_stock),
    Step(orders.complete_order),
)
