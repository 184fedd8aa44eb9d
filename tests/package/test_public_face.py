"""What ``durable_sagas`` exports: complete, and nothing that has no use outside."""

import ast
import re
from pathlib import Path

import pytest

import durable_sagas
from app.settings import ROOT

USERS = [*(ROOT / "examples").glob("*.py"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def test_all_names_that_it_imports_are_exported() -> None:
    tree = ast.parse(Path(durable_sagas.__file__).read_text())
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]

    assert sorted(imported) == sorted(durable_sagas.__all__)


@pytest.mark.parametrize("user", USERS, ids=lambda path: path.name)
def test_examples_and_documents_import_only_what_is_exported(user: Path) -> None:
    imports = re.findall(r"^from durable_sagas import (\([^)]+\)|[^\n]+)$", user.read_text(), re.MULTILINE)

    assert {name for names in imports for name in re.findall(r"\w+", names)} <= set(durable_sagas.__all__)


def test_every_public_function_says_what_it_does() -> None:
    public = {name: value for name, value in vars(durable_sagas.Sagas).items() if not name.startswith("_")}
    methods = [value for value in public.values() if callable(value)]

    assert methods
    assert all(method.__doc__ for method in methods)
