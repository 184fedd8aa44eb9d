"""Which tests may run side by side: most of them wait for something, and so leave the machine to others."""

from xdist.scheduler import LoadScopeScheduling

SERVERS = ("rabbitmq", "redis")
"""Brokers that the tests share: one shop at a time, or each would take the other's messages."""

PACKAGES = ("tests/browser/", "tests/chaos/")
"""What opens something for all its tests, or needs the machine for itself."""

ON_RABBITMQ = (
    "tests/deploy/test_worker_command.py",
    "tests/metrics/test_servers.py",
    "tests/tracing/test_servers.py",
    "tests/workers/test_amqp_transport.py",
    "tests/workers/test_stopped_service.py",
    "tests/workers/test_two_versions.py",
)
"""Modules with a shop on RabbitMQ whose tests do not say so in their names."""


class OneShopPerServer(LoadScopeScheduling):  # type: ignore[misc]  # it comes without types
    """Give each group of tests that must not run side by side to one process, as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the group that a test belongs to: that of a server, of a package with a shop of its own, or its module."""
    path, _, name = nodeid.partition("::")
    if path in ON_RABBITMQ:
        return "rabbitmq"
    package = next((package for package in PACKAGES if path.startswith(package)), None)
    if package:
        return package
    if server := next((server for server in SERVERS if server in name), None):
        return server
    if path.startswith("tests/scenarios/"):  # one shop serves both modules, on each stack
        path = next((stack for stack in ("eager", "memory") if stack in name), path)
    return path
