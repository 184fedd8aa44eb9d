"""What gunicorn, started anywhere in this folder, needs to know beyond its command line."""

import _thread
import os
import signal
from collections.abc import Callable
from threading import Event
from types import FrameType
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from app import runtime
from app.observability.logging import configure_logging
from app.observability.metrics.folders import FOLDER, make_folder
from app.settings import Settings
from web.server.buffering_worker import BufferingWorker
from web.server.limits import MAX_CONNECTIONS

settings = Settings()
threads = settings.web_threads
worker_class = BufferingWorker
worker_connections = MAX_CONNECTIONS
sendfile = False  # it would have a thread wait for who reads the file

if settings.prometheus_multiproc_dir is None:
    # a scrape reaches any of the worker processes, and must be told of all
    os.environ[FOLDER] = str(make_folder())


class OneLog(Logger):
    """Gunicorn's own lines, written as the rest are. Who asked for what is the proxy's to log."""

    def setup(self, cfg: Config) -> None:
        """Hand its lines on to the log of the process."""
        super().setup(cfg)
        settings = runtime.current().settings
        configure_logging(settings.log_level, settings.log_format)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = OneLog


def post_worker_init(_worker: object) -> None:
    """Send responses as `web.server.gunicorn_response` does, and end live pages when the worker is to stop."""
    # here, and not above: the parent may know nothing of the application, or SIGHUP would load no new code
    from web.server.gunicorn_response import BufferedResponse

    wsgi.Response = BufferedResponse  # a worker makes its answers of this, and there is no setting for it
    stop_on_signals(runtime.current().stopping)


def stop_on_signals(stopping: Event) -> None:
    """Set the event when a signal asks the process to end, before gunicorn's own handler of it runs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _after_setting(stopping, signal.getsignal(number)))


def _after_setting(stopping: Event, handler: Any) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        # set() takes a lock, which this thread may hold where the signal interrupts it; another thread can wait for it
        _thread.start_new_thread(stopping.set, ())
        if callable(handler):
            handler(number, frame)

    return stop
