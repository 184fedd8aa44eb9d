"""The saga engine: durable sagas on plain Celery. It knows nothing of the shop it is used in."""
