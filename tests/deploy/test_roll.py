"""A rolling restart, with containers that are lines in a list."""

import pytest

from deploy.roll import main, roll


class Engine:
    """Containers of one machine, and what was done to them in order."""

    def __init__(self, **services: int) -> None:
        self.running = {name: [f"{name}-{n}" for n in range(1, count + 1)] for name, count in services.items()}
        self.fewest = dict(services)
        self.made = 0
        self.interrupted = False

    def containers(self, service: str) -> list[str]:
        return list(self.running[service])

    def scale(self, service: str, count: int) -> None:
        while len(self.running[service]) < count:
            self.made += 1
            self.running[service].append(f"new-{service}-{self.made}")

    def becomes_healthy(self, container: str) -> bool:
        if self.interrupted:
            raise KeyboardInterrupt
        return True

    def end(self, container: str) -> None:
        for name, containers in self.running.items():
            if container in containers:
                containers.remove(container)
                self.fewest[name] = min(self.fewest[name], len(containers))


def test_every_container_is_replaced_and_there_are_never_fewer() -> None:
    assert main(["web", "postgres"]) == 2  # servers are not rolled
    engine = Engine(payments=3, web=2, shipping=0)

    roll(engine, ["payments", "web", "shipping"], lambda _: None)

    assert engine.running == {
        "payments": ["new-payments-1", "new-payments-2", "new-payments-3"],
        "web": ["new-web-4", "new-web-5"],
        "shipping": [],  # what does not run is not started
    }
    assert engine.fewest == {"payments": 3, "web": 2, "shipping": 0}


def test_an_interrupted_roll_leaves_as_many_as_there_were() -> None:
    engine = Engine(payments=2)
    engine.interrupted = True

    with pytest.raises(KeyboardInterrupt):
        roll(engine, ["payments"], lambda _: None)

    assert engine.running == {"payments": ["payments-1", "payments-2"]}
