"""What is to be found in the documents."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from app.settings import ROOT

RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block of code, and the heading that it stands under."""

    language: str
    heading: str
    code: str


def blocks(document: Path) -> list[Block]:
    """Return every block of code, in their order."""
    found: list[Block] = []
    heading, language = "", ""
    lines: list[str] | None = None
    for line in document.read_text().splitlines():
        fence = line.strip().startswith("```")
        if fence and lines is None:
            language, lines = line.strip().strip("`"), []
        elif fence and lines is not None:
            found.append(Block(language, heading, dedent("\n".join(lines))))
            lines = None
        elif lines is not None:
            lines.append(line)
        elif match := re.match(r"#+ (.+)", line):
            heading = match[1]
    return found


def statements() -> list[str]:
    """Return the SQL of the how-to guides, statement by statement."""
    return [block.code for guide in HOW_TO for block in blocks(guide) if block.language == "sql"]


def anchors(document: Path) -> set[str]:
    """Return what a link may lead to inside a document, as GitHub and Python-Markdown make it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
