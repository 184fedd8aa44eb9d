"""Publish the saga of every signal to the web processes, if they share a Redis."""

from app import runtime
from app.saga import signals
from app.saga.signals import SagaSignal


def announce(happening: SagaSignal) -> None:
    """Announce that a saga has changed."""
    if announcer := runtime.current().announcer:
        announcer.announce(happening.saga_id)


signals.connect(announce)
