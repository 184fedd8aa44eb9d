"""A real nginx with the configuration that ships, on loopback; its names lead where a test wants."""

import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.settings import ROOT
from tests.testkit.processes import free_port, listens, running
from tests.testkit.servers import not_here

SHIPPED = ROOT / "deploy" / "nginx" / "nginx.conf"
START = ROOT / "deploy" / "nginx" / "start"


class Names(socketserver.UDPServer):
    """A DNS that knows some names, each with its addresses; to all else it says that there is no such name."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.addresses = addresses


class Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, reply_to = self.request
        assert isinstance(self.server, Names)
        question = query[12:]
        name = ".".join(_labels(question))
        addresses = self.server.addresses.get(name, ())
        flags = 0x8180 if addresses else 0x8183
        header = query[:2] + struct.pack("!5H", flags, 1, len(addresses), 0, 0)
        # each answer points back to the name in the question: type A, class IN, good for a second
        answers = (struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in addresses)
        reply_to.sendto(header + question + b"".join(answers), self.client_address)


def _labels(question: bytes) -> Iterator[str]:
    while question[0]:
        yield question[1 : 1 + question[0]].decode()
        question = question[1 + question[0] :]


def nginx_program() -> str:
    """Return where nginx is installed; skip the test, or fail it in CI, if it is not."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        not_here("there is no nginx: install it (`make services`)")
    return program


@contextmanager
def nginx(
    folder: Path, web_port: int, addresses: Mapping[str, Sequence[str]], trusted_proxies: str = ""
) -> Iterator[str]:
    """Run nginx; its web servers are at one port of the addresses that ``web`` has. Yields where it listens."""
    program = nginx_program()
    port = free_port()
    with Names(addresses) as names:
        threading.Thread(target=names.serve_forever, daemon=True).start()
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


TLS_PROXY = """
daemon off;
pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate;
        ssl_certificate_key {folder}/key;
        location / {{
            proxy_pass {inner};
            proxy_bind {address};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


@contextmanager
def tls_proxy(folder: Path, inner: str, address: str) -> Iterator[int]:
    """Run an nginx that ends TLS, and asks the inner one from this address. Yields its port on 127.0.0.1."""
    folder.mkdir()
    program, port = nginx_program(), free_port()
    made = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate"), "-subj", "/CN=shop.example"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", "-days", "1", *curve, *made], check=True, capture_output=True)
    config = folder / "nginx.conf"
    text = TLS_PROXY.format(folder=folder, port=port, inner=inner, address=address)
    config.write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
    command = [program, "-e", "stderr", "-c", str(config)]
    with running(command, dict(os.environ), folder / "nginx.log", lambda: listens(port)):
        yield port
