"""Lower the CPU priority of worker processes, so that the web processes, which users wait for, run first."""

import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)

SESSION_NICENESS = Path("/proc/self/autogroup")
"""The niceness of this process's session as a whole; exists only where Linux schedules by session (autogroup)."""
MAX_ATTEMPTS = 30
RETRY_DELAY_SECONDS = 0.1


def lower_priority(niceness: int) -> None:
    """Lower the priority of this process and of those that it will start; 0 changes nothing."""
    if niceness == 0:
        return
    os.nice(niceness)
    # a process's own niceness counts within its session only; only a session leader changes that of the session,
    # because other processes share it
    if SESSION_NICENESS.exists() and os.getsid(0) == os.getpid():
        _lower_session_priority(niceness)


def _lower_session_priority(niceness: int) -> None:
    for _ in range(MAX_ATTEMPTS):
        try:
            SESSION_NICENESS.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(RETRY_DELAY_SECONDS)  # the kernel accepts one such change per 0.1 s, from all processes together
        except OSError as error:
            logger.info("the session keeps its priority", extra={"reason": error})
            return
        else:
            return
