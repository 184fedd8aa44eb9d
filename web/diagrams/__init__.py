"""Diagrams as pure layouts: positions in pixels, and icons. Templates render them as SVG."""
