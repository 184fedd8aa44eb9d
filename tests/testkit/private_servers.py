"""Servers of our own, on free ports of loopback, each in a folder of its own: the only ones that are ever stopped."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import redis
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.testkit.processes import end, free_port, kill_group, listens, spawn, wait_for
from workflows import QUEUES

FAST, IMMEDIATE, STOP, KILL, FLUSH = "fast", "immediate", "stop", "kill", "flush"


class MissingServer(Exception):
    """Raised when a server's program is not on this machine; says how to get it."""


class Server(ABC):
    """A server that is one process (and its children)."""

    NAME: ClassVar[str]
    WAYS: ClassVar[tuple[str, ...]]
    """The ways in which it may go down; it comes back with ``start``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ)
        self.lost_messages = 0
        """How many messages were waiting in it whenever it was made to forget them."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Return where CloudMart finds it."""

    @abstractmethod
    def start(self) -> None:
        """Start it, or do nothing if it runs; returns once it answers."""

    @abstractmethod
    def down(self, way: str) -> None:
        """Take it down in one of its ways; returns once it is down."""

    def end(self) -> None:
        """End it for good, if it runs."""
        if self.process:
            kill_group(self.process)

    def _spawn(self, command: Sequence[str], **options: Any) -> None:
        self.process = spawn(list(command), self.environment, self.folder / "server.log", cwd=self.folder, **options)

    def _end(self, how: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            end(self.process, how)


class PrivatePostgresql(Server):
    """A PostgreSQL cluster. It refuses to run as root, so root runs it as the user of Debian's package.

    With a ``primary``, which runs, it is a standby of that one.
    """

    NAME = "postgresql"
    WAYS = (IMMEDIATE, FAST)

    def __init__(self, folder: Path, primary: "PrivatePostgresql | None" = None) -> None:
        super().__init__(folder)
        self._bin = _folder_of("PostgreSQL", "postgresql", ["postgres", "initdb"], "/usr/lib/postgresql/*/bin")
        self._as_user = _unprivileged_user()
        if user := self._as_user.get("user"):
            shutil.chown(folder, user)
        if primary:
            options = ["-h", "127.0.0.1", "-p", str(primary.port), "--write-recovery-conf", "--checkpoint=fast"]
            command = [str(_folder_of("PostgreSQL", "postgresql", ["pg_basebackup"]) / "pg_basebackup"), *options]
        else:
            command = [str(self._bin / "initdb"), "-A", "trust", "--encoding=UTF8", "--locale=C"]
        command += ["-D", str(folder / "data"), "-U", "postgres", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._as_user)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        # without fsync a crash of the server loses nothing, only one of the machine would
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        switches = [switch for name, value in options.items() for switch in ("-c", f"{name}={value}")]
        self._command = [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *switches]
        wait_for("PostgreSQL", self._answers)

    def down(self, way: str) -> None:
        self._end({FAST: signal.SIGINT, IMMEDIATE: signal.SIGQUIT}[way])

    def end(self) -> None:
        self.down(IMMEDIATE)

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            # after a crash it refuses to start as long as a process of the one before is still ending
            self._spawn(self._command, **self._as_user)
        try:
            create_engine(self.url, poolclass=NullPool).connect().close()
        except OperationalError:
            return False
        return True


class PrivateRedis(Server):
    """A Redis that keeps nothing: killed, it comes back empty."""

    NAME = "redis"
    WAYS = (KILL, FLUSH)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = _folder_of("Redis", "redis-server", ["redis-server"]) / "redis-server"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if self.process and self.process.poll() is None:
            return  # it was only flushed
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        self._spawn([str(self._program), *where, "--save", "", "--appendonly", "no"])
        wait_for("Redis", lambda: listens(self.port))

    def down(self, way: str) -> None:
        with redis.Redis(port=self.port) as client:
            self.lost_messages += sum(int(client.llen(queue)) for queue in QUEUES)
            if way == FLUSH:
                client.flushall()
        if way == KILL:
            self._end(signal.SIGKILL)


class PrivateRabbitmq(Server):
    """A RabbitMQ node with an Erlang port mapper of its own; its durable queues and their messages survive."""

    NAME = "rabbitmq"
    WAYS = (STOP, KILL)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        scripts = _folder_of(
            "RabbitMQ", "rabbitmq-server", ["rabbitmq-server", "rabbitmq-env"], "/usr/lib/rabbitmq/bin"
        )
        self._script = scripts / "rabbitmq-server"
        self._epmd_program = _folder_of("Erlang's port mapper", "erlang-base", ["epmd"]) / "epmd"
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self.environment |= self._settings()

    def _settings(self) -> dict[str, str]:
        files = {
            ".erlang.cookie": uuid4().hex,
            "enabled_plugins": "[].\n",
            "rabbitmq-env.conf": "",
            "rabbitmq.conf": f"listeners.tcp.local = 127.0.0.1:{self.port}\n",
        }
        for name, content in files.items():
            (self.folder / name).write_text(content)
        (self.folder / ".erlang.cookie").chmod(0o400)
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"chaos-{uuid4().hex[:8]}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
        }

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        if self._epmd is None:
            command = [str(self._epmd_program), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = spawn(command, self.environment, self.folder / "epmd.log")
            wait_for("epmd", lambda: listens(self._epmd_port))
        self._spawn([str(self._script)])
        wait_for("RabbitMQ", lambda: listens(self.port))

    def down(self, way: str) -> None:
        if way == STOP:
            self._end(signal.SIGTERM)  # the script has the node stop in good order
        else:
            super().end()
        wait_for("RabbitMQ to be gone", lambda: not listens(self.port))

    def end(self) -> None:
        super().end()
        if self._epmd:
            kill_group(self._epmd)


def _folder_of(server: str, package: str, programs: Sequence[str], *elsewhere: str) -> Path:
    """Return the folder that holds all these programs. Raises MissingServer."""
    candidates = [Path(folder) for folder in os.get_exec_path()]
    for pattern in elsewhere:
        candidates += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in programs):
            return folder
    raise MissingServer(
        f"{server} is not installed here ({' and '.join(programs)}): "
        f"`make services` does it on Debian, as root (the package is {package})"
    )


def _unprivileged_user() -> dict[str, Any]:
    """Return what has a process started by root run as somebody else; nothing if we are not root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingServer(
            "PostgreSQL refuses to run as root and there is no user postgres: `make services`"
        ) from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def folder_for_servers(*, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Make a temporary folder that other users may enter, for PostgreSQL may have to run as one.

    It is removed at the end unless ``keep`` says otherwise by then.
    """
    folder = Path(tempfile.mkdtemp(prefix="cloudmart-chaos-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if not keep():
            shutil.rmtree(folder)
