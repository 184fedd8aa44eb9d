"""The saga engine: durable sagas on plain Celery, independent of the shop that uses it."""
