"""The outside world: a payment provider and a carrier. They are somebody else's systems, simulated here."""

from app import runtime
from app.gateways.carrier import Carrier, CarrierEntry, SimulatedCarrier
from app.gateways.line import Line
from app.gateways.payment_provider import PaymentProvider, PaymentProviderEntry, SimulatedPaymentProvider
from app.retention import RetentionRule

RETENTION = (RetentionRule(PaymentProviderEntry, "order_id"), RetentionRule(CarrierEntry, "order_id"))
"""What the simulated gateways forget with an order: real ones keep their own books for as long as they like."""


def payment_provider() -> PaymentProvider:
    """Return this installation's payment provider."""
    return SimulatedPaymentProvider(runtime.current().database, _line())


def carrier() -> Carrier:
    """Return this installation's carrier."""
    return SimulatedCarrier(runtime.current().database, _line())


def _line() -> Line:
    here = runtime.current()
    settings = here.settings
    return Line(settings.gateway_timeout_seconds, settings.gateway_latency_seconds, here.stopping)
