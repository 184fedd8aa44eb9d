"""Live pages: server-sent events, and the subscription to changes that triggers them."""
