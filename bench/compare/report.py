"""What is made of the figures: a table, a table of targets, and a file of JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.compare.rounds import Plan, Row
from bench.compare.targets import ORCHESTRATED, TARGETS
from bench.machine import machine, packages

PACKAGES = ("celery", "kombu", "sqlalchemy", "psycopg2-binary", "dbos", "restate-sdk", "hypercorn", "celery-saga")


def medians(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median rate of every row that is not in trouble."""
    return {row.key: statistics.median(row.rates) for row in rows if row.rates and not row.trouble}


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table: medians, their range, and what the orchestrated saga is by comparison."""
    rates = medians(rows)
    ours = rates.get(ORCHESTRATED)
    lines = [f"{'':<48}{'sagas/s':>9}{'lowest':>9}{'highest':>9}{'orchestrated ÷':>16}"]
    for row in rows:
        if row.key not in rates:
            lines.append(f"{row.key:<48}  {(row.trouble or 'not measured').splitlines()[0]}")
            continue
        ratio = f"{ours / rates[row.key]:.2f}" if ours else ""
        lines.append(f"{row.key:<48}{rates[row.key]:>9.1f}{min(row.rates):>9.1f}{max(row.rates):>9.1f}{ratio:>16}")
    return lines


def targets(rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return each target, what was measured, and whether it is met."""
    measured = [(target, target.measured(rates)) for target in TARGETS]
    return [
        {
            "target": target.says,
            "at_least": target.at_least,
            "measured": None if ratio is None else round(ratio, 3),
            "met": None if ratio is None else ratio >= target.at_least,
        }
        for target, ratio in measured
    ]


def target_table(rates: Mapping[str, float]) -> list[str]:
    """Return the lines of the table of targets."""
    lines = [f"{'':<56}{'target':>8}{'measured':>10}  met"]
    for row in targets(rates):
        measured = "" if row["measured"] is None else f"{row['measured']:.2f}"
        met = {None: "not measured", True: "yes", False: "no"}[row["met"]]
        lines.append(f"{row['target']:<56}{row['at_least']:>8}{measured:>10}  {met}")
    return lines


def content(plan: Plan, rows: Sequence[Row], servers: Mapping[str, str], load: float) -> dict[str, Any]:
    """Return all that was measured, and where."""
    rates = medians(rows)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": asdict(plan),
        "machine": machine(load),
        "versions": {**servers, **packages(PACKAGES)},
        "rows": [
            {
                "name": row.key,
                "sagas_per_second": rates.get(row.key),
                "rounds": row.rates,
                "trouble": row.trouble,
                "settings": dict(row.contestant.settings),
            }
            for row in rows
        ],
        "targets": targets(rates),
    }


def write(folder: Path, what: Mapping[str, Any]) -> Path:
    """Write the file; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"compare-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(what, indent=2, ensure_ascii=False) + "\n")
    return path
