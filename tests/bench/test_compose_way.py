"""The Compose way of the scale report, against a ``docker`` that only notes what it is asked for."""

import threading
from pathlib import Path

import pytest

from bench.scaling.compose import open_compose

FAKE = """#!/bin/sh
echo "$*" >> {calls}
case "$*" in
  "compose port nginx 8080") echo 127.0.0.1:8081 ;;
  "compose exec -T web printenv OPERATOR_TOKEN") echo the-token ;;
  "compose exec -T payments printenv GATEWAY_LATENCY_SECONDS") echo 0.5 ;;
  "compose ps --services --status running") printf 'payments\\nweb\\n' ;;
  "compose ps -q --status running payments") cat {payments} ;;
  "compose ps -q --status running web") echo w1 ;;
  "compose exec -T web python -m app audit") echo "VIOLATED  stock adds up"; exit 1 ;;
  "compose up "*) printf 'p1\\np2\\np3\\n' > {payments} ;;
  *) echo "no such thing: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pytest's way to take Ctrl-C alone."""
    monkeypatch.setattr("bench.scale_report.stop_on_signals", threading.Event)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the fake first on the path; returns the file of what it was asked for."""
    calls, payments = tmp_path / "calls", tmp_path / "payments"
    payments.write_text("p1\n")
    docker = tmp_path / "docker"
    docker.write_text(FAKE.format(calls=calls, payments=payments))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return calls


def test_a_service_is_scaled_alone_and_has_its_replicas_back_in_the_end(calls: Path) -> None:
    with open_compose() as stack:
        assert (stack.url, stack.token) == ("http://127.0.0.1:8081", "the-token")
        assert stack.describe() == {"latency": "0.5 s"}
        stack.scale("payments", 3)
        assert stack.audit() == (False, "VIOLATED  stock adds up\n")

    ups = [line for line in calls.read_text().splitlines() if line.startswith("compose up")]
    up = "compose up -d --no-deps --no-recreate --wait --scale payments={} payments"
    assert ups == [up.format(3), up.format(1)]
