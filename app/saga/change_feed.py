"""Announces every happening's saga to the web processes, where they share a Redis."""

from app import runtime
from app.saga import signals
from app.saga.signals import SagaSignal


def announce(happening: SagaSignal) -> None:
    """Have it said that a saga has changed."""
    if announcer := runtime.current().announcer:
        announcer.announce(happening.saga_id)


signals.connect(announce)
