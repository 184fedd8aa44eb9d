"""Gateways to external systems: a payment provider and a carrier, both simulated here."""

from app import runtime
from tasks.gateways.carrier import Carrier, CarrierEntry, SimulatedCarrier
from tasks.gateways.payment_provider import PaymentProvider, PaymentProviderEntry, SimulatedPaymentProvider
from tasks.gateways.simulated_network import SimulatedNetwork
from tasks.retention import RetentionRule

RETENTION = (RetentionRule(PaymentProviderEntry, "order_id"), RetentionRule(CarrierEntry, "order_id"))
"""The rows of the simulated gateways deleted with an order; real ones have their own retention."""


def payment_provider() -> PaymentProvider:
    """Return this installation's payment provider."""
    return SimulatedPaymentProvider(runtime.current().database, _network())


def carrier() -> Carrier:
    """Return this installation's carrier."""
    return SimulatedCarrier(runtime.current().database, _network())


def _network() -> SimulatedNetwork:
    process = runtime.current()
    settings = process.settings
    return SimulatedNetwork(settings.gateway_timeout_seconds, settings.gateway_latency_seconds, process.stopping)
