"""Print to a terminal, with the control characters of stored text escaped because a terminal would execute them."""

import unicodedata
from collections.abc import Iterable, Iterator

import click

from workflows.read_side.saga_history import LoggedAttempt


def write_line(text: str, *, err: bool = False) -> None:
    """Write one line with its controls, line ends, direction marks and surrogates escaped."""
    # str.isprintable() is False for the ideographic space of Japanese texts
    shown = (
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
    click.echo("".join(shown), err=err)


def table(attempts: Iterable[LoggedAttempt]) -> Iterator[str]:
    """Yield a header and one line per attempt of a saga's log."""
    yield f"{'step':<18}{'operation':<14}{'outcome':<11}{'attempt':>7}{'ms':>9}"
    for attempt in attempts:
        milliseconds = "" if attempt.milliseconds is None else f"{attempt.milliseconds:.1f}"
        line = f"{attempt.step:<18}{attempt.operation:<14}{attempt.outcome:<11}{attempt.number:>7}{milliseconds:>9}"
        remark = "found nothing to compensate" if attempt.nothing_to_undo else attempt.error
        yield f"{line}  {remark}" if remark else line
