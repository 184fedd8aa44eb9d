"""Format names and durations, and estimate the widths of texts: without fonts to measure with, on the wide side."""

import unicodedata

from web.i18n import translate as _

FULL, HALF = 1.02, 0.6
"""Widths in ems of a Japanese character, and of a rather wide Latin one."""


def width_of(text: str, size: float) -> float:
    """Return the approximate width of a text in pixels, in a font of this size."""
    wide = sum(1 for character in text if unicodedata.east_asian_width(character) in "WF")
    return (wide * FULL + (len(text) - wide) * HALF) * size


def plain(name: str) -> str:
    """Return the display name of a command or step."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """Return a human-readable duration: 12 ms, 1.4 s, 3 min, 2 h, 5 d."""
    seconds = max(seconds, 0)
    if seconds < 0.9995:
        return _("%(n)s ms", n=f"{seconds * 1000:.0f}" if seconds >= 0.00095 else "<1")
    if seconds < 9.95:
        return _("%(n)s s", n=f"{seconds:.1f}")
    if seconds < 99.5:
        return _("%(n)s s", n=f"{seconds:.0f}")
    if seconds < 99.5 * 60:
        return _("%(n)s min", n=f"{seconds / 60:.0f}")
    if seconds < 48 * 3600:
        return _("%(n)s h", n=f"{seconds / 3600:.0f}")
    return _("%(n)s d", n=f"{seconds / 86400:.0f}")
