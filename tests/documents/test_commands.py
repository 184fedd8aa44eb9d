"""Every command, target and metric that the documents name is there."""

import re
import shlex

import click
import pytest

from app.settings import ROOT
from cli.main import commands
from tests.documents.document import DOCUMENTS, RUNBOOK, blocks

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
CODE = [
    line
    for document in DOCUMENTS
    for code in (
        *(block.code for block in blocks(document) if block.language in {"sh", "bash"}),
        *re.findall(r"`([^`\n]+)`", FENCED.sub("", document.read_text())),
    )
    for line in code.splitlines()
]
"""The lines of the documents' blocks of shell, and what stands as code in their sentences."""

# what stands far to the right explains
TYPED = {match[1].strip() for line in CODE if (match := re.search(r"python -m app ((?:[^\s#|>]+ ?)+)", line))}
COMMANDS = sorted(arguments for arguments in TYPED if "…" not in arguments)
MADE = {
    target
    for line in CODE
    if (match := re.match(r"\$? ?make ([a-z-]+(?: [a-z-]+)*)", line.strip()))
    for target in match[1].split()
}


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
    targets = re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert {target for several in targets for target in several.split()} >= MADE
    assert len(MADE) > 8
    assert len(COMMANDS) > 8


def test_every_metric_of_the_runbook_exists() -> None:
    named = set(re.findall(r"`((?:saga|step|queue|broker|database)_(?!id)[a-z_]+)`", RUNBOOK.read_text()))
    modules = ("durable_sagas/metrics.py", "workflows/operations/gauges.py")
    sources = "\n".join((ROOT / path).read_text() for path in modules)

    assert "saga_stuck" in named
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in sources} == set()
