"""Gunicorn settings, loaded by every gunicorn that is started in this directory."""

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
from app.http_server.buffering_worker import BufferingWorker
from app.http_server.limits import MAX_CONNECTIONS
from app.observability.logging import configure_logging
from app.observability.metrics.multiprocess import FOLDER, make_folder
from app.settings import Settings

settings = Settings()
threads = settings.web_threads
worker_class = BufferingWorker
worker_connections = MAX_CONNECTIONS
sendfile = False  # it blocks a thread until the client has read the file

if settings.prometheus_multiproc_dir is None:
    # a scrape reaches one of the worker processes, whose response must cover all of them
    os.environ[FOLDER] = str(make_folder())


class OneLog(Logger):
    """Sends gunicorn's log through the application's logging. Access logs are left to the proxy."""

    def setup(self, cfg: Config) -> None:
        """Propagate the error log to the root logger, without handlers of its own."""
        super().setup(cfg)
        settings = runtime.current().settings
        configure_logging(settings.log_level, settings.log_format)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = OneLog


def post_worker_init(_worker: object) -> None:
    """Send responses with `web.gunicorn_response`, and end live streams when the worker is to stop."""
    # imported here: if the parent process imported the application, a SIGHUP would not load new code
    from web.gunicorn_response import BufferedResponse

    wsgi.Response = BufferedResponse  # the class that workers instantiate; there is no setting for it
    stop_on_signals(runtime.current().stopping)


def stop_on_signals(stopping: Event) -> None:
    """Set the event on SIGTERM, SIGINT and SIGQUIT, before gunicorn's own signal handler runs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _after_setting(stopping, signal.getsignal(number)))


def _after_setting(stopping: Event, handler: Any) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        # set() takes a lock that the interrupted thread may hold; another thread can wait for it without a deadlock
        _thread.start_new_thread(stopping.set, ())
        if callable(handler):
            handler(number, frame)

    return stop
