"""What the shop itself promises, measured: ``python -m bench.own``. One measure per module."""
