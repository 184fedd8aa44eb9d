"""Every text of the pages is there in every language, with the same placeholders, and is compiled."""

import re
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest
from babel.messages.catalog import Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.settings import ROOT
from web.i18n import LANGUAGES

KEYWORDS = ["-k", "lazy_gettext", "-k", "lazy_ngettext:1,2"]
"""As in the Makefile, besides those that Babel knows."""

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> set[Any]:
    """What the code and the templates say now."""
    gathered = tmp_path_factory.mktemp("messages") / "messages.pot"
    extract = [sys.executable, "-m", "babel.messages.frontend", "-q", "extract", "-F", str(ROOT / "pyproject.toml")]
    subprocess.run([*extract, *KEYWORDS, "-o", gathered, ROOT], check=True)
    with gathered.open("rb") as file:
        return {message.id for message in read_po(file) if message.id}


def texts(text: str | Sequence[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def agrees(message: Message) -> bool:
    """Return whether a translation names what its message does; of a plural ("resume it") it may leave some out."""
    forms, translated = ([set(PLACEHOLDER.findall(text)) for text in texts(of)] for of in (message.id, message.string))
    return all(min(forms, key=len) <= form <= max(forms, key=len) for form in translated)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_every_text_and_no_other_is_translated_with_the_same_values_and_compiled(
    sources: set[Any], language: str
) -> None:
    folder = ROOT / "web" / "translations" / language / "LC_MESSAGES"
    with (folder / "messages.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    translated = [message for message in catalog if message.id]
    compiled = BytesIO()
    write_mo(compiled, catalog)

    assert sources ^ {message.id for message in translated} == set(), "`make translations`"
    assert not catalog.obsolete
    assert [message.id for message in translated if message.fuzzy or not all(texts(message.string))] == []
    assert [message.id for message in translated if not agrees(message)] == []
    assert (folder / "messages.mo").read_bytes() == compiled.getvalue(), "`make translations`"
