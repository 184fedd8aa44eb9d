"""Gateways to external systems: a payment provider and a carrier, both simulated here."""

from app import runtime
from app.gateways.carrier import Carrier, CarrierEntry, SimulatedCarrier
from app.gateways.line import Line
from app.gateways.payment_provider import PaymentProvider, PaymentProviderEntry, SimulatedPaymentProvider
from app.retention import RetentionRule

RETENTION = (RetentionRule(PaymentProviderEntry, "order_id"), RetentionRule(CarrierEntry, "order_id"))
"""The rows of the simulated gateways deleted with an order; real ones have their own retention."""


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
