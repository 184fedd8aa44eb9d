"""The counts that a run prints."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_VIOLATIONS = 20

_DELIVERED = re.compile(rb"delivered (\S+) redelivered=([01])")


@dataclass(frozen=True)
class Messages:
    """What the roles' logs tell of messages."""

    delivered: int
    repeated: int
    """Deliveries beyond the first of the same message of the same saga, whoever sent it again."""
    redelivered: int
    """Deliveries of which the broker itself says that it had delivered the message before."""
    redriven: int
    """How often the sweep drove a saga on, or turned back one that was overdue."""


@dataclass(frozen=True)
class Report:
    """What came of a run: counts, and what must not be."""

    title: str
    seconds: float
    statuses: Counter[str]
    healthy_undone: Counter[str]
    """Why orders were undone that were not told to fail."""
    stuck: Counter[str]
    """On what sagas were stuck before they were resumed."""
    kills: Counter[str]
    restarts: Counter[str]
    ended_by_themselves: Counter[str]
    repeats: Counter[str]
    """Why the client had to send a request again."""
    slowest_answer: float
    slowest_settling: float
    messages: Messages
    lost_messages: int
    """How many messages were waiting in a broker when it was made to forget them."""
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        yield f"{self.title}, {self.seconds:.0f} s"
        yield from _counted("orders", self.statuses)
        yield from _counted("  undone though healthy", self.healthy_undone)
        yield from _counted("stuck, and resumed", self.stuck)
        yield from _counted("kills", self.kills)
        yield from _counted("restarts of servers", self.restarts)
        yield from _counted("ended by themselves", self.ended_by_themselves)
        yield from _counted("requests sent again", self.repeats)
        yield f"  {'messages delivered':<24}{self.messages.delivered:>6}"
        yield f"  {'  of these repeated':<24}{self.messages.repeated:>6}"
        yield f"  {'  redelivered by broker':<24}{self.messages.redelivered:>6}"
        yield f"  {'messages known as lost':<24}{self.lost_messages:>6}"
        yield f"  {'re-drives by the sweep':<24}{self.messages.redriven:>6}"
        yield f"  {'slowest answer':<24}{self.slowest_answer:>8.1f} s"
        yield f"  {'longest time to settle':<24}{self.slowest_settling:>8.1f} s"
        yield f"  {'violations':<24}{len(self.violations):>6}"
        yield from (f"VIOLATED  {violation}" for violation in self.violations[:MAX_VIOLATIONS])
        if len(self.violations) > MAX_VIOLATIONS:
            yield f"… and {len(self.violations) - MAX_VIOLATIONS} more"


def read_logs(folder: Path) -> Messages:
    """Count in the roles' logs what the witness and the sweep wrote."""
    keys: Counter[bytes] = Counter()
    redelivered = redriven = 0
    for path in folder.glob("*.log"):
        with path.open("rb") as log:
            for line in log:
                if found := _DELIVERED.search(line):
                    keys[found[1]] += 1
                    redelivered += found[2] == b"1"
                redriven += b" is driven on by the sweep" in line or b" is overdue" in line
    return Messages(keys.total(), keys.total() - len(keys), redelivered, redriven)


def _counted(what: str, counter: "Counter[str]") -> Iterator[str]:
    if counter or not what.startswith(" "):
        parts = ", ".join(f"{name} {number}" for name, number in counter.most_common())
        yield f"  {what:<24}{counter.total():>6}" + (f"  ({parts})" if parts else "")
