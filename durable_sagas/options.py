"""The options of one binding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Times in seconds.

    ``step_timeout_seconds`` is a step's unless it has its own, ``saga_timeout_seconds`` that of a choreographed saga.
    A saga without progress for ``stall_seconds`` is re-driven by the sweep, which runs every ``sweep_seconds``.
    ``Admission`` rejects new sagas once they would wait for more than ``acceptable_wait_seconds``, which must exceed
    the time that a saga takes when none is waiting, or ``max_unfinished`` have not ended.
    """

    step_timeout_seconds: float = 30.0
    saga_timeout_seconds: float = 60.0
    stall_seconds: float = 15.0
    sweep_seconds: float = 1.0
    acceptable_wait_seconds: float = 30.0
    max_unfinished: int | None = None
