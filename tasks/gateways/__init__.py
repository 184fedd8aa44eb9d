"""Gateways to external systems: a payment provider and a carrier, both simulated here."""

from tasks.gateways.carrier import CarrierEntry, SimulatedCarrier
from tasks.gateways.payment_provider import PaymentProviderEntry, SimulatedPaymentProvider
from tasks.retention import RetentionRule

RETENTION = (RetentionRule(PaymentProviderEntry, "order_id"), RetentionRule(CarrierEntry, "order_id"))
"""The rows of the simulated gateways deleted with an order; real ones have their own retention."""


def payment_provider() -> SimulatedPaymentProvider:
    """Return this installation's payment provider."""
    return SimulatedPaymentProvider()


def carrier() -> SimulatedCarrier:
    """Return this installation's carrier."""
    return SimulatedCarrier()
