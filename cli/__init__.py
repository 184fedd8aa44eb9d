"""The command line interface, and the embedded stack that it starts."""
