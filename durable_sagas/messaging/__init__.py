"""Publish, consume, batch and serialize messages over Celery."""
