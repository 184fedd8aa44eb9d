"""How wide a text will be: a server has no fonts to measure with, so this errs on the wide side."""

import unicodedata

FULL, HALF = 1.02, 0.6
"""Widths in ems of a Japanese character, and of a wide-ish Latin one."""


def width_of(text: str, size: float) -> float:
    """Return about how many pixels a text takes in a font of this size."""
    wide = sum(1 for character in text if unicodedata.east_asian_width(character) in "WF")
    return (wide * FULL + (len(text) - wide) * HALF) * size


def plain(name: str) -> str:
    """Return a command's or a step's name as people read it."""
    return name.replace("_", " ")
