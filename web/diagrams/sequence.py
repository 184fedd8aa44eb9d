"""Lay out a choreographed saga as a sequence diagram: a lifeline per service, and the events between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from web.diagrams.text import plain, width_of
from web.saga_view import icons
from web.saga_view.durations import duration
from web.saga_view.icons import Mark
from workflows.read_side.event_flow import EventDelivery, Outcome, PublishedEvent

GUTTER, MARGIN = 64.0, 10.0
NARROWEST, GAP = 128.0, 22.0
TOP = 56.0
PILL, CHIP = 24.0, 22.0
SLOT, BETWEEN = 40.0, 14.0
LOOP = 34.0
SIZE, BOLD = 12, 13


@dataclass(frozen=True)
class Lifeline:
    """The lifeline of a service."""

    x: float
    service: str


@dataclass(frozen=True)
class Chip:
    """A service's reaction to an event; ``says`` describes it in words."""

    x: float
    y: float
    width: float
    text: str
    style: str
    says: str


@dataclass(frozen=True)
class Message:
    """An event's delivery to one subscriber; ``itself`` if the subscriber is also the publisher."""

    x1: float
    x2: float
    y: float
    itself: bool
    chip: Chip


@dataclass(frozen=True)
class Utterance:
    """A published event: its position, its time, and its deliveries."""

    x: float
    y: float
    width: float
    text: str
    after: str
    messages: Sequence[Message]
    no_return_y: float | None


@dataclass(frozen=True)
class SequenceDiagram:
    """The whole diagram."""

    width: float
    height: float
    lifelines: Sequence[Lifeline]
    utterances: Sequence[Utterance]


def sequence_diagram(said: Sequence[PublishedEvent]) -> SequenceDiagram:
    """Lay out a saga's events from top to bottom, in the order in which they were recorded."""
    column = max([NARROWEST, *(width_of(text, SIZE) + 18 for text in _texts(said))]) + GAP
    services = _services(said)
    places = {service: GUTTER + column * (index + 0.5) for index, service in enumerate(services)}
    utterances, y = [], TOP
    for one in said:
        drawn, y = _utterance(one, said[0], places, y)
        utterances.append(drawn)
    lifelines = [Lifeline(x, service) for service, x in places.items()]
    return SequenceDiagram(GUTTER + column * len(services) + MARGIN, y + MARGIN, lifelines, utterances)


def mark_of(heard: EventDelivery) -> Mark:
    """Return the icon of a service's reaction to an event."""
    if heard.outcome is Outcome.ACTED and heard.logged:
        return icons.of_operation(heard.logged)
    return _MARKS[heard.outcome]


_MARKS = {
    Outcome.ACTED: icons.DONE,
    Outcome.DUPLICATE: icons.SAID_AGAIN,
    Outcome.NOTHING: icons.NOTHING_TO_DO,
    Outcome.PENDING: icons.PENDING,
    Outcome.NOTIFIED: icons.NOTIFIED,
}


def _services(said: Sequence[PublishedEvent]) -> list[str]:
    # in order of occurrence: the publisher of the first event is on the left
    found = [service for one in said for service in (one.service, *(heard.service for heard in one.deliveries))]
    return list(dict.fromkeys(found))


def _texts(said: Sequence[PublishedEvent]) -> list[str]:
    return [_title(one) + " " for one in said] + [_words(heard) for one in said for heard in one.deliveries]


def _title(said: PublishedEvent) -> str:
    return f"{said.event.sequence} {said.event.event_type}"


def _words(heard: EventDelivery) -> str:
    mark = mark_of(heard)
    if heard.outcome is Outcome.NOTHING:
        return f"{mark.glyph} {mark.word}"
    attempts = heard.logged.attempts if heard.logged and heard.outcome is Outcome.ACTED else 0
    name = plain(heard.command or heard.task_name.partition(".")[2])
    return f"{mark.glyph} {name}{f' ×{attempts}' if attempts > 1 else ''}"


def _utterance(
    said: PublishedEvent, first: PublishedEvent, places: dict[str, float], y: float
) -> tuple[Utterance, float]:
    x = places[said.service]
    messages = [
        _message(heard, x, places[heard.service], y + PILL + SLOT * n) for n, heard in enumerate(said.deliveries)
    ]
    end = y + PILL + SLOT * len(messages) + BETWEEN
    passed = (said.event.timestamp - first.event.timestamp).total_seconds()
    text = _title(said)
    utterance = Utterance(
        x=x,
        y=y,
        width=width_of(text, BOLD) + 16,
        text=text,
        after=f"+{duration(passed)}" if passed > 0 else "0",
        messages=messages,
        no_return_y=end - BETWEEN / 2 if said.is_pivot else None,
    )
    return utterance, end


def _message(heard: EventDelivery, x1: float, x2: float, y: float) -> Message:
    text, mark = _words(heard), mark_of(heard)
    says = f"{heard.task_name}: {mark.word}"
    chip = Chip(x2, y + 14, width_of(text, SIZE) + 14, text, mark.style, says)
    return Message(x1, x2, y + 9, x1 == x2, chip)
