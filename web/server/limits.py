"""What both web servers grant a client, so that no client keeps others from being served."""

MAX_REQUEST_BODY_BYTES = 1024 * 1024
MAX_CONNECTIONS = 500
"""Per process; below what a process may have open, which is 1024 by default."""
REQUEST_TIMEOUT_SECONDS = 30
"""How long a request, from its first byte to the last of its body, may take to arrive; and a connection may be idle."""
ANSWER_TIMEOUT_SECONDS = 30
"""How long a client may take nothing of an answer that is being sent to it."""
