"""Kombu's transports for RabbitMQ, Redis and memory, with what each needs to be fast and robust here."""
