"""Measurements by hand: what has no place in a test, because it takes minutes or tells of one machine."""
