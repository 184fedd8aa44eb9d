"""What every command begins with: this process's runtime, as the environment says."""

import sys

import click
from pydantic import ValidationError

from app import runtime
from app.runtime import Runtime
from app.settings import SECRETS, Settings
from app.telemetry import configure_logging

USAGE_ERROR = 2


def open_runtime() -> Runtime:
    """Read the environment and make it this process's; a value that cannot be used is named, and ends with 2."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            given = "(not shown)" if name.lower() in SECRETS else repr(problem["input"])
            click.echo(f"{name}={given}: {problem['msg']}", err=True)
        sys.exit(USAGE_ERROR)
    configure_logging(settings.log_level)
    return runtime.use(Runtime(settings))
