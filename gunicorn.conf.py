"""What gunicorn, started anywhere in this folder, needs to know beyond its command line."""

import signal
from collections.abc import Callable
from threading import Event
from types import FrameType
from typing import Any

from app import runtime
from app.settings import Settings

threads = Settings().web_threads


def post_worker_init(_worker: object) -> None:
    """Have open live pages end when their worker is asked to: it would wait for them."""
    stopping = runtime.current().stopping
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(ending, _after_setting(stopping, signal.getsignal(ending)))


def _after_setting(stopping: Event, handler: Any) -> Callable[[int, FrameType | None], None]:
    def end(number: int, frame: FrameType | None) -> None:
        stopping.set()
        if callable(handler):
            handler(number, frame)

    return end
