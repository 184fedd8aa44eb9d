"""How many processes ``python -m app worker`` has work on a queue, and how many messages they hold."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from app.runtime import Runtime
from app.sagas import sagas
from app.settings import ROOT, Settings
from cli import worker as command
from durable_sagas.messaging.batcher import MAX_BATCH
from workflows import QUEUES

OUTSIDE = {"payments", "shipping"}
"""Who calls a gateway, and waits for its answer most of the time."""


@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("queue", QUEUES)
def test_who_calls_nobody_outside_works_in_one_process_and_gathers_unless_a_fault_may_hang(
    monkeypatch: pytest.MonkeyPatch, queue: str, faults: bool
) -> None:
    asked: list[str] = []
    settings = Settings(
        database_url="postgresql://localhost/none",
        broker_url="amqp://localhost//",
        fault_injection=faults,
        worker_concurrency=7,
        worker_niceness=0,  # this process is none
    )
    monkeypatch.setattr(command, "load_runtime", lambda: Runtime(settings))
    monkeypatch.setattr("cli.worker.celery_worker.main", lambda arguments, *_, **__: asked.extend(arguments))

    result = CliRunner().invoke(command.worker, [queue])

    def value_of(option: str) -> str:
        return asked[asked.index(option) + 1]

    assert result.exit_code == 0, result.output
    assert sagas.calls_gateway(queue) == (queue in OUTSIDE)
    if queue in OUTSIDE or faults:
        assert value_of("-c") == "7"
        assert {"--pool", "--prefetch-multiplier"}.isdisjoint(asked)  # Celery's own choice is prefork
    else:
        assert (value_of("--pool"), value_of("-c")) == ("solo", "1")
        assert value_of("--prefetch-multiplier") == str(MAX_BATCH)  # or there would be nothing to gather


def test_a_worker_loads_nothing_of_what_only_flower_and_shells_need() -> None:
    loaded = "import sys, cli.worker, workflows; print(*{name.partition('.')[0] for name in sys.modules})"

    said = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    # each of them in every process of every worker
    assert {"celery", "workflows"} <= set(said.split())
    assert not {"flower", "tornado", "prompt_toolkit", "click_repl", "flask"} & set(said.split())
