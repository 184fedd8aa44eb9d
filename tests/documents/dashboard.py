"""The dashboard, as Grafana reads it."""

import json
import re
from typing import Any

from app.settings import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "cloudmart.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

FUNCTIONS = {"histogram_quantile"}


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names: what is not in braces, quotes, or the labels of a grouping."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on)\s*\([^)]*\)", " ", expression)
    words = set(re.findall(r"\b[a-z][a-z_]*\b", plain))
    return {word for word in words if "_" in word} - FUNCTIONS | (words & {"up"})
