"""Lower the CPU priority of worker processes, so that the web processes, which users wait for, run first."""

import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)

SESSION = Path("/proc/self/autogroup")
"""The niceness of this process's session as a whole; exists only where Linux schedules by session (autogroup)."""
ATTEMPTS = 30
APART_SECONDS = 0.1


def lower_priority(niceness: int) -> None:
    """Lower the priority of this process and of those that it will start; 0 changes nothing."""
    if niceness == 0:
        return
    os.nice(niceness)
    # a process's own niceness counts within its session only; only a session leader changes that of the session,
    # because other processes share it
    if SESSION.exists() and os.getsid(0) == os.getpid():
        _give_way_as_a_session(niceness)


def _give_way_as_a_session(niceness: int) -> None:
    for _ in range(ATTEMPTS):
        try:
            SESSION.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(APART_SECONDS)  # the kernel accepts one such change per 0.1 s, from all processes together
        except OSError as error:
            logger.info("the session keeps its priority", extra={"reason": error})
            return
        else:
            return
