"""``make advisories`` checks every version that is pinned, and every version is pinned."""

import re
import subprocess

from app.settings import ROOT

FILES = ("requirements.txt", "requirements-dev.txt", "constraints.txt", "bench/requirements.txt")


def pins() -> list[str]:
    lines = [line for name in FILES for line in (ROOT / name).read_text().splitlines()]
    return [line for line in lines if re.match(r"[A-Za-z]", line)]


def test_every_version_is_pinned() -> None:
    assert [line for line in pins() if not re.match(r"[\w.-]+(\[\w+\])?==[\w.]+( |$)", line)] == []


def test_every_pinned_version_is_looked_up() -> None:
    installed = ["-o", ".venv/installed", "-o", ".venv/installed-dev"]  # by whoever runs the tests
    command = ["make", *installed, "advisories", "AUDIT_OPTIONS=--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"would have audited {len(pins())} packages" in done.stderr
