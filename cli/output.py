"""Output to a terminal, which acts on control characters: none of a stored text may reach it."""

import unicodedata

import click


def write_line(text: str, *, err: bool = False) -> None:
    """Write one line; control characters in it, line ends included, are written as escapes."""
    click.echo(printable(text), err=err)


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal would obey or not show: controls, direction marks, surrogates."""
    return "".join(character if _is_shown(character) else _escape(character) for character in text)


def _is_shown(character: str) -> bool:
    # the space of Japanese texts is one that str.isprintable() does not count as printable
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
