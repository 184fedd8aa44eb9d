"""Order with and without many open live pages: ``python -m bench.live_pages [--pages 200] [--moving 40]``.

Starts a shop of its own (SQLite in a temporary folder, or ``--database``), and orders in rounds, every other one with
so many pages open, each read as a browser reads it. Prints how much slower ordering was, as a ratio of medians of
what was measured in turns.
"""

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from app.settings import ROOT

PATIENCE_SECONDS = 60
LOOKED_AT_SECONDS = 15
ENDED = {"completed", "compensated", "stuck"}
STUCK = {"shipping": "decline", "payments": "undo-fail:99"}
HANGS = {"payments": "hang"}


@click.command()
@click.option("--pages", default=200, show_default=True, help="How many live pages are open.")
@click.option("--moving", default=40, show_default=True, help="How many of them show a saga that has not ended.")
@click.option("--orders", default=100, show_default=True, help="Orders in each round.")
@click.option("--buyers", default=4, show_default=True, help="How many order at the same time.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of each kind.")
@click.option("--database", help="An empty database, to be used instead of SQLite.")
def main(pages: int, moving: int, orders: int, buyers: int, rounds: int, database: str | None) -> None:
    """Measure what open live pages cost those who order."""
    with shop(database) as (port, pid):
        buyer = Buyer(port, pid)
        ended, unended = buyer.prepare()
        shown = [*islice(cycle(unended), moving), *islice(cycle(ended), pages - moving)]
        buyer.round(orders, buyers)  # what is only slow at first is not to be measured
        alone, beside = [], []
        for number in range(rounds):
            # each kind comes first as often as the other: what is measured later is measured on a fuller shop
            for with_pages in (number % 2 == 1, number % 2 == 0):
                if with_pages:
                    with read(port, shown) as readers:
                        beside.append(buyer.round(orders, buyers))
                    click.echo(f"beside  {beside[-1]}; the pages: {readers.summary()}")
                else:
                    alone.append(buyer.round(orders, buyers))
                    click.echo(f"alone   {alone[-1]}")
        quiet = load(pid)
        with read(port, shown):
            taken = load(pid) - quiet
    click.echo(
        f"Beside {pages} live pages, {moving} of them of sagas that have not ended, it takes so many times as long:"
    )
    for name in ("accepted", "settled", "computed"):
        click.echo(f"{name:>10}  {ratio(beside, alone, name):.2f}")
    click.echo(f"While nobody orders, the pages take {taken:.1%} of a processor.")


@dataclass(frozen=True)
class Round:
    """What a round took, in seconds: the median until an order was accepted, and for each order of the whole round."""

    accepted: float
    settled: float
    computed: float
    """The shop's processor time: what others on the machine do does not count in it."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {1000 * took:.1f} ms" for name, took in vars(self).items())


def ratio(beside: Sequence[Round], alone: Sequence[Round], name: str) -> float:
    """Return the ratio of the medians of one of a round's figures."""
    medians = [statistics.median(float(getattr(one, name)) for one in rounds) for rounds in (beside, alone)]
    return medians[0] / medians[1]


class Buyer:
    """Orders by the API."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        book = {"name": "Book", "price": 1000, "stock_quantity": 1_000_000}
        self.book_id = self._call("POST", "/api/v1/products", book)["book_id"]

    def prepare(self) -> tuple[list[str], list[str]]:
        """Return sagas that have ended, and sagas that have not: some are stuck, some hang."""
        ended = [self.order() for _ in range(10)]
        stuck = [self.order(STUCK) for _ in range(8)]
        hanging = [self.order(HANGS) for _ in range(2)]
        for saga_id in [*ended, *stuck]:
            self.wait_for(saga_id)
        return ended, [*stuck, *hanging]

    def round(self, orders: int, buyers: int) -> Round:
        """Place so many orders, and wait until all of them have ended."""
        began, computed = time.monotonic(), processor_seconds(self.pid)
        with ThreadPoolExecutor(buyers) as pool:
            placed = list(pool.map(lambda _: self._timed_order(), range(orders)))
        for saga_id, _ in placed:
            self.wait_for(saga_id)
        return Round(
            accepted=statistics.median(took for _, took in placed),
            settled=(time.monotonic() - began) / orders,
            computed=(processor_seconds(self.pid) - computed) / orders,
        )

    def order(self, simulate: dict[str, str] | None = None) -> str:
        """Place an order; returns its saga."""
        body = {"items": [{"product_id": self.book_id, "quantity": 1}], "simulate": simulate or {}}
        return str(self._call("POST", "/api/v1/orders", body)["saga_id"])

    def wait_for(self, saga_id: str) -> None:
        """Wait until a saga has ended, or is stuck."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self._call("GET", f"/api/v1/sagas/{saga_id}")["status"] not in ENDED:
            if time.monotonic() > give_up:
                raise click.ClickException(f"saga {saga_id} does not end")
            time.sleep(0.05)  # a bounded poll for its end

    def _timed_order(self) -> tuple[str, float]:
        began = time.monotonic()
        return self.order(), time.monotonic() - began

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status >= 300:
                raise click.ClickException(f"{method} {path}: {answer.status} {answer.read().decode()}")
            return json.load(answer)
        finally:
            connection.close()


def processor_seconds(pid: int) -> float:
    """Return how much processor time a process has used (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def load(pid: int) -> float:
    """Return which part of a processor a process takes, over some seconds."""
    computed = processor_seconds(pid)
    time.sleep(LOOKED_AT_SECONDS)  # the interval that is measured
    return (processor_seconds(pid) - computed) / LOOKED_AT_SECONDS


@dataclass
class Page:
    """One open page, which does what ``static/live.js`` and the browser's EventSource do."""

    saga_id: str
    last_id: str = ""
    retry: float = 3
    over: bool = False
    requests: int = 0
    snapshots: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, port: int) -> None:
        """Read the stream, again and again, until it has ended for good."""
        while not self.over:
            with contextlib.suppress(OSError):  # a browser tries again, too
                await self._connect(port)
            await asyncio.sleep(self.retry)

    async def _connect(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        accept = "Host: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        writer.write(f"GET /sagas/{self.saga_id}/live HTTP/1.1\r\n{accept}{seen}Connection: close\r\n\r\n".encode())
        self.requests += 1
        try:
            self.over = b" 204 " in await reader.readline()
            while not self.over and (line := await reader.readline()):
                self._understand(*line.decode().strip().partition(": ")[::2])
        finally:
            self.heard.set()
            writer.close()

    def _understand(self, name: str, value: str) -> None:
        if name == "retry":
            self.retry = int(value) / 1000
        elif name == "id":
            self.last_id = value
            self.snapshots += 1
        elif (name, value) == ("event", "end"):
            self.over = True
        elif name == "event":
            self.heard.set()


@dataclass
class Readers:
    """What all pages together did."""

    requests: int = 0
    snapshots: int = 0

    def summary(self) -> str:
        """Return it in words."""
        return f"{self.requests} requests, {self.snapshots} snapshots"


@contextmanager
def read(port: int, shown: Sequence[str]) -> Iterator[Readers]:
    """Have a page open on each of these sagas, in a process of its own, once all have been answered."""
    readers = Readers()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_read_all, args=(port, shown, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(PATIENCE_SECONDS):
            raise click.ClickException("not all pages were answered")
        ours.recv()
        yield readers
        ours.send("enough")
        readers.requests, readers.snapshots = ours.recv()
    finally:
        process.terminate()
        process.join()


def _read_all(port: int, shown: Sequence[str], parent: Connection) -> None:
    asyncio.run(_open_all(port, [Page(saga_id) for saga_id in shown], parent))


async def _open_all(port: int, pages: Sequence[Page], parent: Connection) -> None:
    reading = [asyncio.create_task(page.read(port)) for page in pages]
    await asyncio.gather(*(page.heard.wait() for page in pages))
    parent.send("open")
    await asyncio.get_running_loop().run_in_executor(None, parent.recv)
    parent.send((sum(page.requests for page in pages), sum(page.snapshots for page in pages)))
    for task in reading:
        task.cancel()


@contextmanager
def shop(database: str | None) -> Iterator[tuple[int, int]]:
    """Run a shop as a process of its own; yields its port and its process id."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        port = _free_port()
        environment = {
            **os.environ,
            "DATABASE_URL": database or f"sqlite:///{folder}/shop.db",
            "BROKER_URL": "memory://",
            "PORT": str(port),
            "FAULT_INJECTION": "1",
            "STEP_TIMEOUT_SECONDS": "3600",  # what hangs is to hang to the end
            "LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "app", "run"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_open(port, process, Path(folder) / "log")
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > give_up:
                raise click.ClickException(f"the shop did not open:\n{log.read_text()}") from error
            time.sleep(0.1)  # a bounded poll until it opens
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
