"""What a reader of any figure has to know: the machine, the servers' versions, and whether others used it as well."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from sqlalchemy import create_engine

from tests.testkit.servers import POSTGRESQL

BUSY = 1.0
"""The load average from which on others take processors that a measurement needs."""


def load_before() -> float:
    """Return the load average, and warn of one at which figures say little; to be called before anything is started."""
    load = os.getloadavg()[0]
    if load > BUSY:
        click.echo(f"somebody else uses this machine (load {load:.1f}): the figures will say little", err=True)
    return load


def machine(load: float) -> dict[str, Any]:
    """Return what is measured on."""
    return {
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": round(load, 2),
    }


def servers() -> dict[str, str]:
    """Return the versions of the servers. Raises ``sqlalchemy.exc.OperationalError`` if PostgreSQL does not answer."""
    with create_engine(POSTGRESQL).connect() as connection:
        postgresql = str(connection.exec_driver_sql("SHOW server_version").scalar_one())
    return {
        "postgresql": postgresql,
        "redis": said_by("redis-server", "--version"),
        "rabbitmq": said_by("rabbitmqctl", "version"),
    }


def packages(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def said_by(*command: str) -> str:
    """Return the last line that a command prints."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "not installed"
    return (ended.stdout or "unknown").strip().splitlines()[-1]
