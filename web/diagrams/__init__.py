"""Drawings as pure layouts: what stands where, in pixels, and which mark it bears. Templates turn them into SVG."""
