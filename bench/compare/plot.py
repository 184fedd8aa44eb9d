"""The figures as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, FLOOR, PEER = "#1f6f8b", "#9aa5ab", "#c98b2b"


def draw(what: Mapping[str, Any], path: Path) -> Path | None:
    """Draw the medians as bars, with the lowest and the highest round; None if there is no matplotlib to draw them."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = [row for row in what["rows"] if row["sagas_per_second"]]
    rates = [row["sagas_per_second"] for row in rows]
    spread = [
        [rate - min(row["rounds"]) for rate, row in zip(rates, rows, strict=True)],
        [max(row["rounds"]) - rate for rate, row in zip(rates, rows, strict=True)],
    ]
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([row["name"] for row in rows], rates, xerr=spread, color=[_colour(row["name"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"sagas per second, median of {what['plan']['rounds']} rounds taken in turns")
    figure.savefig(path)
    return path


def _colour(name: str) -> str:
    if name.startswith(("orchestrated", "choreographed")):
        return OURS
    return FLOOR if name.startswith(("empty", "transactions")) else PEER
