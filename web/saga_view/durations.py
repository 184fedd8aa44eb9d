"""Format durations."""

from web.i18n import translate as _


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
