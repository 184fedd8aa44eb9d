"""A real nginx with the configuration that ships, on loopback; the name ``web`` leads where a test wants."""

import os
import shutil
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.settings import ROOT
from tests.testkit.processes import free_port, listens, running
from tests.testkit.servers import not_here

SHIPPED = ROOT / "deploy" / "nginx" / "nginx.conf"
START = ROOT / "deploy" / "nginx" / "start"


class Names(socketserver.UDPServer):
    """A DNS that knows the addresses of ``web``; of all else it says that there is no such name."""

    def __init__(self, web: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.web = web


class Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, reply_to = self.request
        assert isinstance(self.server, Names)
        question = query[12:]
        addresses = self.server.web if question.startswith(b"\x03web\x00") else ()
        header = query[:2] + struct.pack("!5H", 0x8180 if addresses else 0x8183, 1, len(addresses), 0, 0)
        # each answer points back to the name in the question: type A, class IN, good for a second
        answers = (struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in addresses)
        reply_to.sendto(header + question + b"".join(answers), self.client_address)


def nginx_program() -> str:
    """Return where nginx is installed; skip the test, or fail it in CI, if it is not."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        not_here("there is no nginx: install it (`make services`)")
    return program


@contextmanager
def nginx(folder: Path, web_port: int, web: Sequence[str], trusted_proxies: str = "") -> Iterator[str]:
    """Run nginx before the web servers at one port of some addresses. Yields where it listens."""
    program, port = nginx_program(), free_port()
    with Names(web) as names:
        threading.Thread(target=names.serve_forever, args=(0.05,), daemon=True).start()
        moved = {
            "listen 8080": f"listen 127.0.0.1:{port}",
            "resolver 127.0.0.11": f"resolver 127.0.0.1:{names.server_address[1]}",
            "http://web:8000": f"http://web:{web_port}",
            "/tmp/": f"{folder}/",
            "/dev/stdout": str(folder / "access.log"),
        }
        text = SHIPPED.read_text()
        for shipped, here in moved.items():
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        # started by root its workers would be nobody's, who may not enter a test's folder
        config = folder / "nginx.conf"
        config.write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
        search = f"{Path(program).parent}:{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": search, "TRUSTED_PROXIES": trusted_proxies}
        command = ["sh", str(START), str(config), str(folder / "trusted-proxies.conf")]
        with running(command, environment, folder / "nginx.log", lambda: listens(port)):
            yield f"http://127.0.0.1:{port}"
        names.shutdown()
