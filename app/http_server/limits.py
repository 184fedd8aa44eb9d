"""Limits of both web servers on clients, so that no client can prevent others from being served."""

MAX_REQUEST_BODY_BYTES = 1024 * 1024
MAX_CONNECTIONS = 500
"""Per process; below the limit of open files, which is 1024 by default."""
REQUEST_TIMEOUT_SECONDS = 30
"""The maximum time for a request to arrive, from its first byte to its last, and for a connection to be idle."""
RESPONSE_TIMEOUT_SECONDS = 30
"""The maximum time in which a client may read nothing of a response that is being sent."""
