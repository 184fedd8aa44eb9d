"""The services: one module per service, with its own tables and queue; none imports another.

``gateways`` holds the external systems that they call; ``amounts`` and ``retention`` are shared by all.
"""
