"""What Flower, started anywhere in this folder, shows of a task, and how it logs."""

import ast
from typing import Any

from app import runtime
from app.observability.logging import configure_logging

# as the rest log: Flower has its own way only where nobody has said how
configure_logging(runtime.current().settings.log_level, runtime.current().settings.log_format)

# Flower searches arguments, whether it shows them or not. A retry is counted on the row of its task, and its reason is
# the exception there, also after the task has succeeded.
tasks_columns = "name,kwargs,state,retries,exception,received,runtime"


def format_task(task: Any) -> Any:
    """Write a task's arguments without the quotes and braces that push the saga's id out of sight."""
    arguments = ast.literal_eval(task.kwargs or "{}")
    task.kwargs = ", ".join(f"{name.removesuffix('_id')} {value}" for name, value in arguments.items())
    return task
