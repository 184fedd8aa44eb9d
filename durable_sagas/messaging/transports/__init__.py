"""Kombu's transports for RabbitMQ, Redis and memory, adapted for speed and robustness."""
