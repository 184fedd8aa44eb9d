"""Container health checks; run as ``python -IS`` they import next to nothing, and take a few milliseconds.

``heartbeat FILE [SECONDS]`` checks whether a worker's consumer, or beat, is connected to the broker:
app/worker/heartbeat.py sets the file's modification time to the moment at which the heartbeat expires. In a container
younger than SECONDS it waits for the first heartbeat, so that a worker is healthy at once and not only at Docker's next
check.
``http PORT PATH`` requests a page of a server. Exits with 0 if healthy, else with 1 and a line with the reason.
"""

import os
import socket
import sys
import time

TIMEOUT_SECONDS = 4


def heartbeat(path: str, starting_seconds: str = "0") -> str:
    """Return what is wrong with the process behind a heartbeat file; an empty string if it is healthy."""
    while not os.access(path, os.F_OK) and container_age() < float(starting_seconds):
        time.sleep(0.2)
    try:
        late = time.time() - os.stat(path).st_mtime  # noqa: PTH116  (pathlib takes longer to import than all the rest)
    except FileNotFoundError:
        return "there has been no heartbeat yet"
    return f"the last heartbeat was good until {late:.0f} s ago" if late > 0 else ""


def container_age() -> float:
    """Return how many seconds the container's first process has been running."""
    with open("/proc/1/stat") as stat, open("/proc/uptime") as uptime:  # noqa: PTH123  (as above)
        started_ticks = int(stat.read().rpartition(")")[2].split()[19])
        return float(uptime.read().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")


def http(port: str, path: str) -> str:
    """Return what is wrong with a server on this machine; an empty string if it responds with 200."""
    try:
        with socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_SECONDS) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            status_line = connection.recv(64).partition(b"\r\n")[0]
    except OSError as error:
        return f"it does not answer: {error}"
    return "" if b" 200 " in status_line else f"it answers {status_line.decode(errors='replace')}"


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    wrong = heartbeat(*arguments) if what == "heartbeat" else http(*arguments)
    if wrong:
        sys.stdout.write(wrong + "\n")
    sys.exit(1 if wrong else 0)
