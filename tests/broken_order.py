"""An order in whose course nearly everything happens that can, and the tasks that it is made of."""

BROKEN = {"payments": "fail:1", "shipping": "decline"}
"""One step is retried, and then everything is undone."""

TASKS = (
    "orders.create_order",
    "inventory.reserve_stock",
    "payments.process_payment",
    "shipping.arrange_shipping",
    "orchestrator.request_compensation",
    "shipping.cancel_shipment",
    "payments.refund_payment",
    "inventory.release_stock",
    "orders.cancel_order",
    "notifications.notify_customer",
)
"""What such an order is made of."""
