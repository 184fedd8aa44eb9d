"""Print to a terminal, with the control characters of stored text escaped because a terminal would execute them."""

import unicodedata

import click


def write_line(text: str, *, err: bool = False) -> None:
    """Write one line; control characters in it, line ends included, are written as escapes."""
    click.echo(printable(text), err=err)


def printable(text: str) -> str:
    """Return a text with controls, direction marks and surrogates escaped: a terminal executes or hides them."""
    return "".join(character if _is_shown(character) else _escape(character) for character in text)


def _is_shown(character: str) -> bool:
    # str.isprintable() is False for the ideographic space of Japanese texts
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
