"""What ``bench.scale_report`` is made of: a shop that can be scaled, a client that loads it, and what it measures."""
