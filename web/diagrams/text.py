"""Estimate text widths; without fonts to measure with, the estimates are on the wide side."""

import unicodedata

FULL, HALF = 1.02, 0.6
"""Widths in ems of a Japanese character, and of a rather wide Latin one."""


def width_of(text: str, size: float) -> float:
    """Return the approximate width of a text in pixels, in a font of this size."""
    wide = sum(1 for character in text if unicodedata.east_asian_width(character) in "WF")
    return (wide * FULL + (len(text) - wide) * HALF) * size


def plain(name: str) -> str:
    """Return the display name of a command or step."""
    return name.replace("_", " ")
