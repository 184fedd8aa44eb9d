"""What a measure found: figures, some of them with a target, and what was not as it must be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HEADER = f"{'':<64}{'target':>12}{'measured':>12}  met"


@dataclass(frozen=True)
class Figure:
    """A figure; one without a bound is there to be read beside those that have one."""

    says: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Tell whether the target is met; None if there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def target(self) -> str:
        """Return the target as people write it; nothing if there is none."""
        if self.at_most is not None and self.at_most == self.at_least:
            return f"= {self.at_most:g} {self.unit}".rstrip()
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}".rstrip()
        return f"≥ {self.at_least:g} {self.unit}".rstrip() if self.at_least is not None else ""

    def line(self) -> str:
        """Return a row of the table."""
        met = {None: "", True: "yes", False: "no"}[self.met]
        value = f"{self.value:,.0f}" if self.value >= 1000 else f"{self.value:.3g}"
        return f"{self.says:<64}{self.target:>12}{f'{value} {self.unit}'.rstrip():>12}  {met}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return {
            "measure": self.says,
            "target": self.target or None,
            "measured": round(self.value, 4),
            "unit": self.unit or None,
            "met": self.met,
        }


@dataclass
class Measured:
    """All that one measure found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What must not be, whatever the figures are: orders lost or oversold, an audit that is not clean."""
    details: dict[str, Any] = field(default_factory=dict)
    """How it was measured, and what the figures were made of."""
    notes: list[str] = field(default_factory=list)
    """What people should read with the figures: where the time goes."""

    def table(self) -> list[str]:
        """Return the lines that are printed."""
        return [
            HEADER,
            *(figure.line() for figure in self.figures),
            *self.notes,
            *(f"WRONG: {it}" for it in self.wrong),
        ]


def write(folder: Path, measured: Measured, where: dict[str, Any]) -> Path:
    """Write what was measured as JSON; returns the file."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"own-{measured.name}-{now:%Y%m%dT%H%M%S}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "measure": measured.name,
        **where,
        "figures": [figure.as_json() for figure in measured.figures],
        "wrong": measured.wrong,
        "details": measured.details,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def percentile(percent: int, values: Sequence[float]) -> float:
    """Return a percentile: no value that was not measured, and of a few values the highest."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
