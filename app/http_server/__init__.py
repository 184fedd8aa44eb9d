"""Adapters to the web servers: limits on clients, and a gunicorn worker that receives requests whole."""
