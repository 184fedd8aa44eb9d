"""Load this process's runtime from the environment, which every command does first."""

import sys
from typing import TextIO

import click
from pydantic import ValidationError

from app import runtime
from app.observability.logging import configure_logging
from app.runtime import Runtime
from app.settings import SECRETS, Settings

USAGE_ERROR = 2


def load_runtime(log_to: TextIO | None = None) -> Runtime:
    """Load the settings from the environment and return this process's runtime.

    Invalid values are printed, and the process exits with 2. The log goes to standard error by default, because
    standard output carries the command's result.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            # a URL may contain a password
            secret = name.lower() in SECRETS or "@" in str(problem["input"])
            given = "(not shown)" if secret else repr(problem["input"])
            click.echo(f"{name}={given}: {problem['msg']}", err=True)
        sys.exit(USAGE_ERROR)
    configure_logging(settings.log_level, settings.log_format, log_to or sys.stderr)
    return runtime.use(Runtime(settings))
