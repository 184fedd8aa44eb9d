"""What every command begins with: this process's runtime, as the environment says."""

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
    """Read the environment and make it this process's; a value that cannot be used is named, and ends with 2.

    The log goes to standard error unless told otherwise: standard output is the command's answer.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            # an address may hold a password
            secret = name.lower() in SECRETS or "@" in str(problem["input"])
            given = "(not shown)" if secret else repr(problem["input"])
            click.echo(f"{name}={given}: {problem['msg']}", err=True)
        sys.exit(USAGE_ERROR)
    configure_logging(settings.log_level, settings.log_format, log_to or sys.stderr)
    return runtime.use(Runtime(settings))
