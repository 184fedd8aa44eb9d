"""What CloudMart adds to Celery's workers: validation of messages, and a heartbeat."""
