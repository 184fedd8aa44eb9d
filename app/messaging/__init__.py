"""Messages over Celery: how they are published, consumed, batched and serialized."""
