"""The order as a choreographed saga: nobody conducts, each service reacts to what it hears.

Read each reaction as a row of a table: on these events, this service does that. The events it may cause stand in its
comment. Every failure, time-out and cancellation takes the same way out: the money goes back, the stock goes back, and
when both have, the order is cancelled. Booking the carrier is the point of no return, so shipping alone decides it.
"""

from app.events import History
from app.saga.choreography import Choreography
from app.saga.decisions import Act, Close, Decision, Undo
from app.saga.definition import COMPENSATION_STARTED, COMPLETED, FAILED
from tasks import inventory, orders, payments, shipping
from tasks.inventory import StockReleased, StockReserved, StockShipped, StockUnavailable
from tasks.orders import OrderCancelled, OrderCancelRequested, OrderCompleted, OrderCreated, OrderTimedOut
from tasks.payments import PaymentCancelled, PaymentCompleted, PaymentFailed, PaymentRefunded
from tasks.shipping import ShippingArranged, ShippingFailed

ORDER_CHOREOGRAPHY = Choreography(
    "order-choreography", timed_out=OrderTimedOut, cancel_requested=OrderCancelRequested, too_late=ShippingArranged
)
on = ORDER_CHOREOGRAPHY.on


@on(OrderCreated, queue="inventory")
def reserve_on_order_created(_: History) -> Decision:
    return Act(inventory.reserve_stock)  # StockReserved or StockUnavailable


@on(OrderCreated, queue="payments")
def charge_on_order_created(_: History) -> Decision:
    return Act(payments.process_payment, unless=StockUnavailable)  # PaymentCompleted or PaymentFailed


def ready_to_ship(order: History) -> bool:
    """Tell whether everything is there that the carrier waits for; from then on the address is fixed."""
    return order.has(StockReserved, PaymentCompleted)


@on(StockReserved, PaymentCompleted, queue="shipping")
def ship_when_reserved_and_paid(order: History) -> Decision:
    if order.has_any(OrderTimedOut, OrderCancelRequested):
        return None  # too late, however long this message waited: see below
    if ready_to_ship(order):
        return Act(shipping.arrange_shipping)  # ShippingArranged or ShippingFailed
    return None  # the other event is still to come


@on(ShippingArranged, queue="orders")
def complete_on_shipping_arranged(_: History) -> Decision:
    return Act(orders.complete_order)  # OrderCompleted


@on(ShippingArranged, queue="inventory")
def hand_over_on_shipping_arranged(_: History) -> Decision:
    return Act(inventory.ship_stock)  # StockShipped


@on(StockUnavailable, ShippingFailed, queue="payments")
def refund_on_failure(_: History) -> Decision:
    return Undo(payments.process_payment, payments.refund_payment)  # PaymentRefunded or PaymentCancelled


@on(PaymentFailed, ShippingFailed, queue="inventory")
def release_on_failure(_: History) -> Decision:
    return Undo(inventory.reserve_stock, inventory.release_stock, otherwise=StockReleased)  # StockReleased


@on(OrderTimedOut, OrderCancelRequested, queue="shipping")
def settle_on_time_out_or_cancel_request(order: History) -> Decision:
    late = order.has(OrderTimedOut)
    # ShippingArranged if it is booked already, and else ShippingFailed
    return Close(shipping.arrange_shipping, "the order timed out" if late else "the customer cancelled")


MONEY_SETTLED = (PaymentFailed, PaymentRefunded, PaymentCancelled)
STOCK_SETTLED = (StockUnavailable, StockReleased)


@on(*MONEY_SETTLED, *STOCK_SETTLED, queue="orders")
def cancel_when_settled(order: History) -> Decision:
    if order.has_any(*MONEY_SETTLED) and order.has_any(*STOCK_SETTLED):
        return Undo(orders.create_order, orders.cancel_order)  # OrderCancelled
    return None  # somebody has still to give something back


@ORDER_CHOREOGRAPHY.milestone(
    OrderCompleted, StockShipped, StockUnavailable, PaymentFailed, ShippingFailed, OrderCancelled
)
def milestone(order: History) -> str | None:
    """Say where the order stands, for people and the sweep; no service decides by it."""
    if order.has(OrderCancelled):
        return FAILED
    if order.has(OrderCompleted, StockShipped):
        return COMPLETED
    if order.has_any(StockUnavailable, PaymentFailed, ShippingFailed):
        return COMPENSATION_STARTED
    return None
