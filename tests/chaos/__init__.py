"""Chaos: real servers, real processes, real orders, and everything killed at random moments.

Run it with ``make chaos`` or ``python -m tests.chaos --stack rabbitmq --seed 7``; see ``__main__``.
"""
