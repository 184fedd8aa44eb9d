"""Who comes first where processes want the same processor: the web, whose answer somebody waits for."""

import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)

SESSION = Path("/proc/self/autogroup")
"""The niceness of this process's session as a whole. It is there where Linux shares the processors out by session."""
ATTEMPTS = 30
APART_SECONDS = 0.1


def lower_priority(niceness: int) -> None:
    """Let others have the processor first, this process and those that it will start; 0 changes nothing."""
    if niceness == 0:
        return
    os.nice(niceness)
    # a process's own niceness counts within its session only; whoever does not lead one shares it with others
    if SESSION.exists() and os.getsid(0) == os.getpid():
        _give_way_as_a_session(niceness)


def _give_way_as_a_session(niceness: int) -> None:
    for _ in range(ATTEMPTS):
        try:
            SESSION.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(APART_SECONDS)  # the kernel takes one such change in a tenth of a second, from all processes
        except OSError as error:
            logger.info("the session keeps its priority", extra={"reason": error})
            return
        else:
            return
