"""Every text of the pages is there in every language, with the same placeholders, and is compiled."""

import re
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.settings import ROOT
from web.i18n import LANGUAGES

TRANSLATED = [language for language in LANGUAGES if language != "en"]
KEYWORDS = ["-k", "lazy_gettext", "-k", "lazy_ngettext:1,2"]
"""As in the Makefile, besides those that Babel knows."""

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What the code and the templates say now."""
    gathered = tmp_path_factory.mktemp("messages") / "messages.pot"
    mapping = ["-F", str(ROOT / "pyproject.toml")]
    extract = [sys.executable, "-m", "babel.messages.frontend", "-q", "extract"]
    subprocess.run([*extract, *mapping, *KEYWORDS, "-o", gathered, ROOT], check=True)
    with gathered.open("rb") as file:
        return read_po(file)


def texts(text: str | Sequence[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def placeholders(text: str) -> set[str]:
    return set(PLACEHOLDER.findall(text))


def agrees(message: Message) -> bool:
    """Tell whether a translation names what its message does; of a plural, as in "resume it", it may leave some out."""
    forms = [placeholders(text) for text in texts(message.id)]
    return all(min(forms, key=len) <= placeholders(text) <= max(forms, key=len) for text in texts(message.string))


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def folder(language: str) -> Path:
    return ROOT / "web" / "translations" / language / "LC_MESSAGES"


@pytest.fixture
def catalog(language: str) -> Catalog:
    with (folder(language) / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_no_other_and_names_the_same_values(sources: Catalog, catalog: Catalog) -> None:
    translated = {message.id: message for message in messages(catalog)}
    said = {message.id for message in messages(sources)}

    assert (said - set(translated), set(translated) - said) == (set(), set()), "`make translations`"
    assert not catalog.obsolete
    assert [message.id for message in translated.values() if message.fuzzy or not all(texts(message.string))] == []
    assert [message.id for message in translated.values() if not agrees(message)] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_what_is_served_is_what_is_written(catalog: Catalog, language: str) -> None:
    compiled = BytesIO()
    write_mo(compiled, catalog)

    assert (folder(language) / "messages.mo").read_bytes() == compiled.getvalue(), "`make translations`"
