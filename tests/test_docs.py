"""What the documents point at is there."""

import re
import subprocess

import pytest

from app.settings import ROOT
from tests.documents.document import DOCUMENTS, anchors

LINKING = [*DOCUMENTS, ROOT / "bench" / "README.md"]

TESTS_NAMED = re.findall(
    r"`([a-z_]+(?:/[a-z_]+)?(?:\.py|/))(?:::(\w+))?`", (ROOT / "docs" / "guarantees.md").read_text()
)


def test_every_promise_names_a_test() -> None:
    table = (ROOT / "docs" / "guarantees.md").read_text().partition("## Fault by fault")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("|")][2:]

    assert len(rows) > 20
    assert all(re.search(r"`[a-z_]+/(\w+\.py)?", row.rstrip("|").rpartition("|")[2]) for row in rows)


@pytest.mark.parametrize(("path", "name"), TESTS_NAMED)
def test_a_test_that_a_promise_names_exists(path: str, name: str) -> None:
    existing = next((place for place in (ROOT / "tests" / path, ROOT / path) if place.exists()), None)

    assert existing, path
    assert not name or f"def {name}(" in existing.read_text()


@pytest.mark.parametrize("document", [str(path.relative_to(ROOT)) for path in LINKING])
def test_links_lead_somewhere(document: str) -> None:
    here = ROOT / document
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", here.read_text()):
        there = here.parent / path if path else here
        assert there.exists(), path
        assert not anchor or anchor in anchors(there), f"{path}#{anchor}"


def test_the_readme_has_at_most_900_words_and_the_index_links_every_document() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900
    index = ROOT / "docs" / "README.md"
    linked = {index.parent / path for path in re.findall(r"\]\(([^)#]+\.md)", index.read_text())}

    assert linked | {index} == set((ROOT / "docs").rglob("*.md"))


def test_every_make_target_of_seed_003_is_there() -> None:
    targets = "docker-up migrate-up run test test-int migrate-down migrate-status migrate-create NAME=add_new_table"

    planned = subprocess.run(["make", "-n", *targets.split()], cwd=ROOT, capture_output=True, text=True, check=False)

    assert planned.returncode == 0, planned.stderr
    assert "docker compose up" in planned.stdout
