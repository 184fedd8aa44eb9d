"""Every metric that the runbook names is one that the shop has."""

import re

import pytest

from app.settings import ROOT
from tests.runbook.document import RUNBOOK

NAMED = sorted(set(re.findall(r"`((?:saga|step|queue|broker|database)_(?!id)[a-z_]+)`", RUNBOOK.read_text())))
SOURCES = "\n".join(path.read_text() for path in (ROOT / "app" / "observability" / "metrics").glob("*.py"))


@pytest.mark.parametrize("name", NAMED)
def test_a_metric_exists(name: str) -> None:
    assert f'"{name.removesuffix("_total")}"' in SOURCES


def test_metrics_are_named() -> None:
    assert "saga_stuck" in NAMED
