"""Where things can go wrong in a worker, and what goes wrong there.

A delivery passes boundaries: the moments between which nothing that others can see happens. A process that dies
anywhere dies, as far as the world can tell, at one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from kombu.exceptions import OperationalError


class Boundary(StrEnum):
    """A moment in a delivery."""

    BEFORE_TRANSACTION = "before a transaction"
    AFTER_COMMIT = "after a commit"
    BEFORE_CALL = "before a gateway's effect"
    AFTER_CALL = "after a gateway's effect"
    BEFORE_PUBLISHING = "before publishing"
    AFTER_PUBLISHING = "after publishing"


class Kind(StrEnum):
    """What goes wrong at a boundary."""

    KILL = "killed"
    """The process is gone, and its message is delivered again."""
    REFUSE = "told that the broker is gone"
    """Publishing fails, whether or not the broker has taken the message; only at the boundaries of publishing."""
    PAUSE = "held up"
    """Everybody else goes on before it does: a garbage collector's pause, a machine without air."""


PUBLISHING = frozenset({Boundary.BEFORE_PUBLISHING, Boundary.AFTER_PUBLISHING})


class Killed(BaseException):
    """Raised to end a process on the spot: no handler of ``Exception`` sees it, as none sees a kill."""


@dataclass(frozen=True)
class Mishap:
    """One thing that goes wrong: at the boundary of this number (0, 1, 2 …) that a delivery passes."""

    kind: Kind
    at: int
    meanwhile: Callable[[], None] = field(default=lambda: None, compare=False)
    """Of a pause: what the others do."""


class Passage:
    """One delivery on its way: which boundaries it has passed, and the mishap that waits for it."""

    def __init__(self, mishap: Mishap | None, note: Callable[[str], None]) -> None:
        self.mishap = mishap
        self.passed: list[Boundary] = []
        self.killed = False
        self._note = note

    def reach(self, boundary: Boundary) -> None:
        """Pass a boundary, unless the mishap waits there."""
        number = len(self.passed)
        self.passed.append(boundary)
        mishap = self.mishap
        if mishap is None or number != mishap.at or (mishap.kind is Kind.REFUSE and boundary not in PUBLISHING):
            return
        self._note(f"{mishap.kind} {boundary}")
        match mishap.kind:
            case Kind.KILL:
                raise Killed
            case Kind.REFUSE:
                raise OperationalError("the broker is gone, as simulated")
            case Kind.PAUSE:
                mishap.meanwhile()
