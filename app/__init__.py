"""CloudMart's platform: settings, Celery app, database, observability, and the binding of the engine to them."""
