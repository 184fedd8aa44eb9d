"""Lay out a choreographed saga as a sequence diagram: a lifeline per service, and the events between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from web.saga_view import icons
from web.saga_view.icons import Mark
from web.text import duration, plain, width_of
from workflows.read_side.event_flow import EventDelivery, Outcome, PublishedEvent

GUTTER, MARGIN = 64.0, 10.0
MIN_WIDTH, GAP = 128.0, 22.0
TOP = 56.0
PILL = 24.0
SLOT, BETWEEN = 40.0, 14.0
SIZE, BOLD = 12, 13


@dataclass(frozen=True)
class MessageArrow:
    """An event's delivery to one subscriber, with a chip below it on the subscriber's reaction.

    It leads back to its own lifeline if the subscriber is also the publisher.
    """

    x1: float
    x2: float
    y: float
    chip_y: float
    chip_width: float
    text: str
    style: str
    description: str
    """The reaction in words."""


@dataclass(frozen=True)
class EventBox:
    """A published event: its position, its time, and its deliveries."""

    x: float
    y: float
    width: float
    text: str
    elapsed: str
    messages: Sequence[MessageArrow]
    pivot_y: float | None


@dataclass(frozen=True)
class SequenceDiagram:
    """The whole diagram; ``lifelines`` are the positions of the services."""

    width: float
    height: float
    lifelines: Mapping[str, float]
    events: Sequence[EventBox]


def sequence_diagram(published: Sequence[PublishedEvent]) -> SequenceDiagram:
    """Lay out a saga's events from top to bottom, in the order in which they were recorded."""
    texts = [_title(event) + " " for event in published]
    texts += [_words(delivery) for event in published for delivery in event.deliveries]
    column = max([MIN_WIDTH, *(width_of(text, SIZE) + 18 for text in texts)]) + GAP
    # in order of occurrence: the publisher of the first event is on the left
    services = dict.fromkeys(
        service for event in published for service in (event.service, *(each.service for each in event.deliveries))
    )
    places = {service: GUTTER + column * (index + 0.5) for index, service in enumerate(services)}
    boxes, y = [], TOP
    for event in published:
        box, y = _event_box(event, published[0], places, y)
        boxes.append(box)
    return SequenceDiagram(GUTTER + column * len(services) + MARGIN, y + MARGIN, places, boxes)


def mark_of(delivery: EventDelivery) -> Mark:
    """Return the icon of a service's reaction to an event."""
    if delivery.outcome is Outcome.ACTED and delivery.logged:
        return icons.of_operation(delivery.logged)
    return _MARKS[delivery.outcome]


_MARKS = {
    Outcome.ACTED: icons.DONE,
    Outcome.DUPLICATE: icons.ALREADY_DONE,
    Outcome.NOTHING: icons.NOTHING_TO_DO,
    Outcome.PENDING: icons.PENDING,
    Outcome.NOTIFIED: icons.NOTIFIED,
}


def _title(published: PublishedEvent) -> str:
    return f"{published.event.sequence} {published.event.event_type}"


def _words(delivery: EventDelivery) -> str:
    mark = mark_of(delivery)
    if delivery.outcome is Outcome.NOTHING:
        return f"{mark.glyph} {mark.word}"
    attempts = delivery.logged.attempts if delivery.logged and delivery.outcome is Outcome.ACTED else 0
    name = plain(delivery.command or delivery.task_name.partition(".")[2])
    return f"{mark.glyph} {name}{f' ×{attempts}' if attempts > 1 else ''}"


def _event_box(
    published: PublishedEvent, first: PublishedEvent, places: dict[str, float], y: float
) -> tuple[EventBox, float]:
    x = places[published.service]
    messages = [
        _message(delivery, x, places[delivery.service], y + PILL + SLOT * n)
        for n, delivery in enumerate(published.deliveries)
    ]
    end = y + PILL + SLOT * len(messages) + BETWEEN
    elapsed = (published.event.timestamp - first.event.timestamp).total_seconds()
    text = _title(published)
    box = EventBox(
        x=x,
        y=y,
        width=width_of(text, BOLD) + 16,
        text=text,
        elapsed=f"+{duration(elapsed)}" if elapsed > 0 else "0",
        messages=messages,
        pivot_y=end - BETWEEN / 2 if published.is_pivot else None,
    )
    return box, end


def _message(delivery: EventDelivery, x1: float, x2: float, y: float) -> MessageArrow:
    text, mark = _words(delivery), mark_of(delivery)
    description = f"{delivery.task_name}: {mark.word}"
    return MessageArrow(x1, x2, y + 9, y + 14, width_of(text, SIZE) + 14, text, mark.style, description)
