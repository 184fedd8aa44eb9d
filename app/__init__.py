"""The kernel: the saga engine and what it stands on. It knows no service, no workflow, no web page."""
