"""Adapters to the web servers: limits on clients, and how gunicorn receives requests and sends responses."""
