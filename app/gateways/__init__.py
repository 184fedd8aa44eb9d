"""The outside world: a payment provider and a carrier. They are somebody else's systems, simulated here."""

from app import runtime
from app.gateways.carrier import Carrier, SimulatedCarrier
from app.gateways.payment_provider import PaymentProvider, SimulatedPaymentProvider


def payment_provider() -> PaymentProvider:
    """Return this installation's payment provider."""
    here = runtime.current()
    return SimulatedPaymentProvider(here.database, timeout=here.settings.gateway_timeout_seconds)


def carrier() -> Carrier:
    """Return this installation's carrier."""
    here = runtime.current()
    return SimulatedCarrier(here.database, timeout=here.settings.gateway_timeout_seconds)
