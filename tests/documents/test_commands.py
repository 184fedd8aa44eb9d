"""Every command, target and metric that the documents name is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from app.settings import ROOT
from cli.main import commands
from tests.documents.document import DOCUMENTS, RUNBOOK, blocks

TARGETS = {
    target
    for targets in re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in targets.split()
}


def code(document: Path) -> list[str]:
    """Return the lines of a document's blocks of shell, and what stands as code in its sentences."""
    in_blocks = [block.code for block in blocks(document) if block.language in {"sh", "bash"}]
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in in_blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)


def of_python(document: Path) -> list[str]:
    # what stands far to the right explains
    found = [
        match[1] and re.split(r"\s{2,}", match[1])[0]
        for line in code(document)
        if (match := re.search(r"python -m app(?: ([^#|>]*))?", line))
    ]
    return [arguments.strip() for arguments in found if arguments and "…" not in arguments]


COMMANDS = sorted({arguments for document in DOCUMENTS for arguments in of_python(document)})
MADE = sorted(
    {
        target
        for document in DOCUMENTS
        for line in code(document)
        if (match := re.match(r"\$? ?make ([a-z-]+(?: [a-z-]+)*)", line.strip()))
        for target in match[1].split()
    }
)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_command_can_be_given_as_it_is_written(arguments: str) -> None:
    command: click.Command = commands
    context: click.Context | None = None
    rest = shlex.split(arguments)
    while isinstance(command, click.Group) and rest:
        assert rest[0] in command.commands, rest[0]
        command = command.commands[rest[0]]
        context = click.Context(command, parent=context, info_name=rest.pop(0))
    if not isinstance(command, click.Group):
        command.make_context(command.name, rest, parent=context)


def test_every_make_target_exists() -> None:
    assert set(MADE) <= TARGETS
    assert len(MADE) > 8
    assert len(COMMANDS) > 8


def test_every_metric_of_the_runbook_exists() -> None:
    named = set(re.findall(r"`((?:saga|step|queue|broker|database)_(?!id)[a-z_]+)`", RUNBOOK.read_text()))
    modules = ("durable_sagas/metrics.py", "workflows/operations/gauges.py")
    sources = "\n".join((ROOT / path).read_text() for path in modules)

    assert "saga_stuck" in named
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in sources} == set()
