"""A time axis that shows milliseconds and minutes side by side: long idle periods are shortened and marked."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import log10

MIN_WIDTH = 5.0
"""The minimum width of an attempt."""
GAP = 2.0
CUT, CUT_GROWTH = 84.0, 30.0
"""The base width of a cut, and the additional width for each tenfold duration."""


@dataclass(frozen=True)
class Cut:
    """An idle period that is drawn shortened. Longer ones are wider, but not to scale."""

    x: float
    width: float
    seconds: float


@dataclass(frozen=True)
class Axis:
    """A monotonic mapping from moments to pixels: later moments are further to the right."""

    moments: Sequence[datetime]
    positions: Sequence[float]
    cuts: Sequence[Cut]
    scale: float = 0.0
    """Pixels per second of the periods that are neither cut nor at their minimum width; 0 if there are none."""

    @property
    def end(self) -> float:
        """The position of the last moment."""
        return self.positions[-1]

    def x(self, moment: datetime) -> float:
        """Return the position of a moment, clamped to the first and the last one."""
        if moment >= self.moments[-1]:
            return self.positions[-1]
        index = max(bisect_right(self.moments, moment) - 1, 0)
        start, end = self.moments[index], self.moments[index + 1]
        share = max((moment - start) / (end - start), 0.0)
        return self.positions[index] + share * (self.positions[index + 1] - self.positions[index])


@dataclass(frozen=True)
class _Interval:
    seconds: float
    busy: bool
    cut: bool

    @property
    def min_width(self) -> float:
        return MIN_WIDTH if self.busy else GAP

    @property
    def cut_width(self) -> float:
        return CUT + CUT_GROWTH * log10(1 + 10 * self.seconds)


def axis(
    busy: Sequence[tuple[datetime, datetime]],
    marked: Iterable[datetime],
    x: float,
    width: float,
    scale: float | None = None,
) -> Axis:
    """Lay out a time axis from ``x``, about ``width`` wide, for the ``busy`` periods.

    ``marked`` are further moments that the axis must contain. It gets wider than ``width`` if there is too much to
    show. With a ``scale``, in pixels per second, the scale determines the width.
    """
    moments = sorted({*marked, *(moment for span in busy for moment in span)})
    if len(moments) == 1:
        return Axis(moments, [x], [])
    intervals = _intervals(moments, busy)
    if scale is None:
        cut = sum(interval.cut_width for interval in intervals if interval.cut)
        # with many cuts the axis gets wider, so that the rest stays legible
        scale = _scale([interval for interval in intervals if not interval.cut], max(width - cut, width / 2))
    positions, cuts = [x], []
    for interval in intervals:
        drawn = interval.cut_width if interval.cut else max(interval.seconds * scale, interval.min_width)
        if interval.cut:
            cuts.append(Cut(positions[-1], drawn, interval.seconds))
        positions.append(positions[-1] + drawn)
    return Axis(moments, positions, cuts, scale)


def _intervals(moments: Sequence[datetime], busy: Sequence[tuple[datetime, datetime]]) -> list[_Interval]:
    starts, ends = sorted(start for start, _ in busy), sorted(end for _, end in busy)
    between = list(pairwise(moments))
    # something runs between two adjacent moments if more periods have started than ended by the first of them
    running = [bisect_right(starts, start) > bisect_right(ends, start) for start, _ in between]
    lengths = [(end - start).total_seconds() for start, end in between]
    worked = sum(length for length, runs in zip(lengths, running, strict=True) if runs)
    return [
        _Interval(length, runs, not runs and length > worked) for length, runs in zip(lengths, running, strict=True)
    ]


def _scale(intervals: Sequence[_Interval], width: float) -> float:
    """Return the pixels per second with which these stretches, none below its minimum width, fill the width."""
    scale, narrow = 0.0, set[int]()
    while True:
        left = width - sum(intervals[index].min_width for index in narrow)
        seconds = sum(interval.seconds for index, interval in enumerate(intervals) if index not in narrow)
        scale = max(left, 0.0) / seconds if seconds else 0.0
        found = {index for index, interval in enumerate(intervals) if interval.seconds * scale < interval.min_width}
        if found <= narrow:
            return scale
        narrow |= found
