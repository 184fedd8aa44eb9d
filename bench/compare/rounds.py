"""Rounds in which the contestants take turns, and what each of them measured."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import redis
from kombu import Connection, Queue

from app import runtime
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from bench.compare import ledger
from bench.compare.contestants.contestant import Contestant, Processes
from bench.compare.place import Place
from bench.compare.work import Outcome
from tests.testkit.private_servers import PrivateRabbitmq, PrivateRedis
from tests.testkit.servers import fresh_postgresql_database

SHOWN_OF_A_LOG = 1500


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    sagas: int
    warm_up: int
    in_flight: int
    processes: int

    def counted(self, outcome: Outcome) -> int:
        """Return how many sagas a turn counts: half as many where each takes seven transactions and more."""
        return self.sagas if outcome is Outcome.COMPLETED else max(1, self.sagas // 2)


@dataclass
class Row:
    """What was measured of a contestant, for one outcome of its sagas."""

    contestant: Contestant
    outcome: Outcome
    rates: list[float] = field(default_factory=list)
    """Sagas per second, one figure for each round."""
    trouble: str | None = None
    """Why there is no figure, or none that may be believed."""

    @property
    def key(self) -> str:
        """Return how the row is called."""
        return f"{self.contestant.name}{' (undone)' if self.outcome is Outcome.UNDONE else ''}"


class Failed(Exception):
    """Raised when a contestant could not be measured; says what its processes said."""


class Rounds:
    """Everything that is needed to measure; ``say`` is told of each figure."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._say = say
        self._stack = ExitStack()
        self._rabbitmq = PrivateRabbitmq(_made(folder / "rabbitmq"))
        self._redis = PrivateRedis(_made(folder / "redis"))
        self._databases: dict[str, str] = {}

    def __enter__(self) -> "Rounds":
        for server in (self._rabbitmq, self._redis):
            self._stack.callback(server.end)
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, contestants: Sequence[Contestant]) -> list[Row]:
        """Measure all; a contestant that is in trouble is left out of the rounds that follow."""
        rows = [Row(one, outcome, trouble=one.missing()) for one in contestants for outcome in one.outcomes]
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds}")
            for one in contestants:
                mine = [row for row in rows if row.contestant is one and row.trouble is None]
                if mine:
                    self._measure(one, mine)
        return rows

    def _measure(self, contestant: Contestant, rows: list[Row]) -> None:
        try:
            with self._running(contestant) as place:
                for row in rows:
                    row.rates.append(self._drive(contestant, row.outcome, place))
                    self._say(f"  {row.key:<48}{row.rates[-1]:>8.1f}/s")
        except (Failed, RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            for row in rows:
                row.trouble = str(error)
            self._say(f"  {contestant.name}: {error}")

    @contextmanager
    def _running(self, contestant: Contestant) -> Iterator[Place]:
        place = self._place(contestant)
        self._empty_brokers()
        place.forget()
        processes = Processes(place)
        try:
            contestant.launch(processes)
            yield place
        finally:
            processes.end()

    def _place(self, contestant: Contestant) -> Place:
        return Place(
            folder=str(_made(self._folder / _file_name(contestant.name))),
            database_url=self._database(contestant.database),
            rabbitmq_url=self._rabbitmq.url,
            redis_url=self._redis.url,
            state_url=f"redis://127.0.0.1:{self._redis.port}/1",
            processes=self._plan.processes,
            in_flight=self._plan.in_flight,
        )

    def _database(self, kind: str) -> str:
        """Return the database of this kind, which is made when it is first wanted."""
        if kind not in self._databases:
            url = self._stack.enter_context(fresh_postgresql_database()).replace("+psycopg2", "")
            ledger.prepare(url)
            if kind == "cloudmart":
                _migrate(url)
            self._databases[kind] = url
        return self._databases[kind]

    def _empty_brokers(self) -> None:
        with redis.Redis(port=self._redis.port) as client:
            client.flushall()
        with Connection(self._rabbitmq.url) as connection:
            for queue in ("orders", "inventory", "payments", "shipping", "orchestrator", "celery_saga"):
                Queue(queue)(connection.default_channel).delete()

    def _drive(self, contestant: Contestant, outcome: Outcome, place: Place) -> float:
        """Run the sagas from a process of its own; returns how many ended per second. Raises Failed."""
        ledger.empty(place.database_url)
        sagas = self._plan.counted(outcome)
        options = ["--sagas", str(sagas), "--warm-up", str(self._plan.warm_up), "--tag", uuid4().hex[:8]]
        command = [sys.executable, "-m", "bench.compare.drive", contestant.driver, *options]
        if outcome is Outcome.UNDONE:
            command.append("--fails")
        environment = {**place.environment(), **contestant.driver_variables(place)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode:
            last = ended.stderr.strip().splitlines()[-1:]
            raise Failed("\n".join([*last, ended.stderr[-SHOWN_OF_A_LOG:], _logs(place.path)]))
        all_orders = sagas + self._plan.warm_up
        wrong = ledger.violations(place.database_url, all_orders, outcome) if contestant.checked else []
        if wrong:
            raise Failed(f"its sagas ended, but {'; '.join(wrong)}")
        return sagas / float(json.loads(ended.stdout.splitlines()[-1])["seconds"])


def _migrate(url: str) -> None:
    before = runtime.current()
    here = runtime.use(Runtime(Settings(database_url=url)))
    try:
        migrate(url)
    finally:
        runtime.use(before)
        here.close()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _logs(folder: Path) -> str:
    return "\n".join(f"--- {log.name}\n{log.read_text()[-SHOWN_OF_A_LOG:]}" for log in sorted(folder.glob("*.log")))
