"""The order as a choreographed saga: there is no orchestrator, each service reacts to events.

Read each reaction as a row of a table: on these events, this service executes, compensates or aborts that action. Its
comment names the events that may result. Every failure, timeout and cancellation is compensated in the same way: the
payment is refunded, the stock is released, and once both are done the order is cancelled. Booking the carrier is the
point of no return (pivot), so only shipping decides whether an order can still be cancelled.
"""

from app.sagas import sagas
from durable_sagas import COMPENSATION_STARTED, COMPLETED, FAILED, Abort, Compensate, Decision, Execute, History
from tasks import inventory, orders, payments, shipping
from tasks.inventory import StockReleased, StockReserved, StockShipped, StockUnavailable
from tasks.orders import OrderCancelled, OrderCancelRequested, OrderCompleted, OrderCreated, OrderTimedOut
from tasks.payments import PaymentCancelled, PaymentCompleted, PaymentFailed, PaymentRefunded
from tasks.shipping import ShippingArranged, ShippingFailed

ORDER_CHOREOGRAPHY = sagas.choreography(
    "order-choreography",
    timed_out=OrderTimedOut,
    cancel_requested=OrderCancelRequested,
    point_of_no_return=ShippingArranged,
)
on = ORDER_CHOREOGRAPHY.on


@on(OrderCreated, queue="inventory")
def reserve_on_order_created(_: History) -> Decision:
    return Execute(inventory.reserve_stock)  # StockReserved or StockUnavailable


@on(OrderCreated, queue="payments")
def charge_on_order_created(_: History) -> Decision:
    return Execute(payments.process_payment, unless=StockUnavailable)  # PaymentCompleted or PaymentFailed


def ready_to_ship(order: History) -> bool:
    """Return whether stock and payment are both done, so that shipping may book; the address is fixed from then on."""
    return order.has(StockReserved, PaymentCompleted)


@on(StockReserved, PaymentCompleted, queue="shipping")
def ship_when_reserved_and_paid(order: History) -> Decision:
    if order.has_any(OrderTimedOut, OrderCancelRequested):
        return None  # the order is being cancelled (see below), and this message was delivered late
    if ready_to_ship(order):
        return Execute(shipping.arrange_shipping)  # ShippingArranged or ShippingFailed
    return None  # the other event is still to come


@on(ShippingArranged, queue="orders")
def complete_on_shipping_arranged(_: History) -> Decision:
    return Execute(orders.complete_order)  # OrderCompleted


@on(ShippingArranged, queue="inventory")
def hand_over_on_shipping_arranged(_: History) -> Decision:
    return Execute(inventory.ship_stock)  # StockShipped


@on(StockUnavailable, ShippingFailed, queue="payments")
def refund_on_failure(_: History) -> Decision:
    return Compensate(payments.process_payment, payments.refund_payment)  # PaymentRefunded or PaymentCancelled


@on(PaymentFailed, ShippingFailed, queue="inventory")
def release_on_failure(_: History) -> Decision:
    # StockReleased
    return Compensate(inventory.reserve_stock, inventory.release_stock, event_if_nothing_done=StockReleased)


@on(OrderTimedOut, OrderCancelRequested, queue="shipping")
def settle_on_time_out_or_cancel_request(order: History) -> Decision:
    late = order.has(OrderTimedOut)
    # ShippingArranged if the carrier is already booked, otherwise ShippingFailed
    return Abort(shipping.arrange_shipping, "the order timed out" if late else "the customer cancelled")


MONEY_SETTLED = (PaymentFailed, PaymentRefunded, PaymentCancelled)
STOCK_SETTLED = (StockUnavailable, StockReleased)


@on(*MONEY_SETTLED, *STOCK_SETTLED, queue="orders")
def cancel_when_settled(order: History) -> Decision:
    if order.has_any(*MONEY_SETTLED) and order.has_any(*STOCK_SETTLED):
        return Compensate(orders.create_order, orders.cancel_order)  # OrderCancelled
    return None  # the refund or the release is still to come


@ORDER_CHOREOGRAPHY.projection(
    OrderCompleted, StockShipped, StockUnavailable, PaymentFailed, ShippingFailed, OrderCancelled
)
def projection(order: History) -> str | None:
    """Return the saga's state after these events, for display and for the sweep; no reaction depends on it."""
    if order.has(OrderCancelled):
        return FAILED
    if order.has(OrderCompleted, StockShipped):
        return COMPLETED
    if order.has_any(StockUnavailable, PaymentFailed, ShippingFailed):
        return COMPENSATION_STARTED
    return None
