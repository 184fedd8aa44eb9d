"""What a container's health check asks, in some milliseconds: run as ``python -IS``, it imports next to nothing.

``heartbeat FILE [SECONDS]`` checks whether a worker's consumer, or beat, is connected to the broker: app/heartbeat.py
sets the file's time to the moment at which the heartbeat expires. In a container younger than SECONDS it
waits for the first heartbeat, so that a worker is healthy at once and not only when Docker asks again.
``http PORT PATH`` asks a server for a page. Exits with 0 if it is well, and with 1 and a line saying why if it is not.
"""

import os
import socket
import sys
import time

PATIENCE_SECONDS = 4


def heartbeat(path: str, starting_seconds: str = "0") -> str:
    """Return what is wrong with who keeps a heartbeat file; nothing if all is well."""
    while not os.access(path, os.F_OK) and container_age() < float(starting_seconds):
        time.sleep(0.2)
    try:
        late = time.time() - os.stat(path).st_mtime  # noqa: PTH116  (pathlib takes longer to import than all the rest)
    except FileNotFoundError:
        return "there has been no heartbeat yet"
    return f"the last heartbeat was good until {late:.0f} s ago" if late > 0 else ""


def container_age() -> float:
    """Return for how many seconds the container's first process has been running."""
    with open("/proc/1/stat") as stat, open("/proc/uptime") as uptime:  # noqa: PTH123  (as above)
        started_ticks = int(stat.read().rpartition(")")[2].split()[19])
        return float(uptime.read().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")


def http(port: str, path: str) -> str:
    """Return what is wrong with a server on this machine; nothing if it answers with 200."""
    try:
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE_SECONDS) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            answer = connection.recv(64).partition(b"\r\n")[0]
    except OSError as error:
        return f"it does not answer: {error}"
    return "" if b" 200 " in answer else f"it answers {answer.decode(errors='replace')}"


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    wrong = heartbeat(*arguments) if what == "heartbeat" else http(*arguments)
    if wrong:
        sys.stdout.write(wrong + "\n")
    sys.exit(1 if wrong else 0)
