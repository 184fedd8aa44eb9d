"""The projects that the documents show do what is said of them, with the wheel alone."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, text

from app.settings import ROOT
from tests.documents.document import blocks
from tests.testkit.processes import running, wait_for
from tests.testkit.servers import fresh_postgresql_database, open_broker, require_postgresql

TUTORIAL = ROOT / "docs" / "tutorial" / "own-saga.md"
CHOREOGRAPHY = ROOT / "docs" / "how-to" / "choreography.md"
ENGINE_REFERENCE = ROOT / "docs" / "reference" / "engine.md"


def python_blocks(document: Path) -> dict[str, list[str]]:
    """Return the Python of a document by heading."""
    found: dict[str, list[str]] = {}
    for block in blocks(document):
        if block.language == "python":
            found.setdefault(block.heading, []).append(block.code + "\n")
    return found


def run_python(code: list[str], environment: dict[str, str], folder: Path) -> str:
    """Run Python in a folder; return its output."""
    done = subprocess.run(
        [sys.executable, *code], env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def statuses(database: str) -> dict[str, str]:
    """Return the status of every saga by its id."""
    engine = create_engine(database)
    with engine.connect() as connection:
        found: dict[str, str] = dict(connection.execute(text("SELECT order_id, status FROM saga_instances")).all())
    engine.dispose()
    return found


def test_the_tutorial_does_what_it_says(installed: dict[str, str], tmp_path: Path) -> None:
    steps = list(python_blocks(TUTORIAL).values())
    [declared], [tables], [start, show], [resume], [test], _ = steps
    (tmp_path / "test_trips.py").write_text(test)
    failing = declared.replace("session.delete(session.get_one(Flight", "raise OSError; (session.get_one(Flight")
    third = start.replace('("trip-1", 400), ("trip-2", 4000)', '("trip-3", 4000),')
    assert failing != declared
    assert third != start
    with open_broker("rabbitmq") as broker, fresh_postgresql_database() as database:
        environment = {**installed, "DATABASE": database}
        celery = [sys.executable, "-m", "celery", "-A", "trips", "worker", "--pool", "solo", "--beat"]

        def write(source: str) -> None:
            (tmp_path / "trips.py").write_text(source.replace("amqp://guest@localhost//", broker))

        def run_until(script: str, expected: dict[str, str]) -> None:
            with running(celery, environment, tmp_path / "worker.log", lambda: True, tmp_path):
                run_python(["-c", script], environment, tmp_path)
                wait_for(str(expected), lambda: statuses(database) == expected)

        write(declared)
        run_python(["-c", tables], environment, tmp_path)
        ended = {"trip-1": "completed", "trip-2": "compensated"}
        run_until(start, ended)
        shown = run_python(["-c", show], environment, tmp_path)
        write(failing)
        run_until(third, ended | {"trip-3": "stuck"})
        write(declared)
        run_until(resume, ended | {"trip-3": "compensated"})
        tested = run_python(["-m", "pytest", "-p", "no:cacheprovider", "test_trips.py"], environment, tmp_path)

    assert shown == "trip-1 completed None\ntrip-2 compensated charge_card: over the limit\n"
    assert "3 passed" in tested


def test_the_tutorials_modules_are_imported_by_a_worker(installed: dict[str, str], tmp_path: Path) -> None:
    split = list(python_blocks(TUTORIAL).values())[-1][0]
    package = tmp_path / "trips"
    package.mkdir()
    (package / "app.py").write_text(f"from celery import Celery\n{split}")
    (package / "saga.py").write_text("from trips.app import celery\n\n@celery.task(name='found')\ndef found(): ...\n")

    report = "from trips.app import celery; celery.loader.init_worker(); print('found' in celery.tasks)"

    assert run_python(["-c", report], installed, tmp_path) == "True\n"


def test_the_guide_shows_the_choreography_that_is_tested() -> None:
    [[shown], *_] = python_blocks(CHOREOGRAPHY).values()

    assert shown == (ROOT / "examples" / "trip_choreography.py").read_text()


CHOREOGRAPHED_TRIPS = """
from sqlalchemy import select
from durable_sagas import SagaInstance
from trip_choreography import *

Base.metadata.create_all(engine)
sagas.metadata.create_all(engine)

def start(trip_id, passengers=2, amount=400):
    with sessions.begin() as session:
        data = {"trip_id": trip_id, "passengers": passengers, "amount": amount}
        return TRIP.start(session, request_trip, trip_id, data, "REQUESTED").id

cancelled, overdue = start("cancelled"), start("overdue")  # no worker runs
sagas.cancel(cancelled)
with sessions.begin() as session:
    saga = session.get_one(SagaInstance, overdue)
    saga.deadline_at = saga.wake_at = saga.created_at
celery.conf.task_always_eager = True
sagas.resume(cancelled)
sagas.sweep()
start("sea")
start("moon", amount=4000)
start("bus", passengers=40)
start("both", passengers=40, amount=4000)
with sessions() as session:
    for trip in session.scalars(select(Trip).order_by(Trip.trip_id)):
        saga = session.scalars(select(SagaInstance).where(SagaInstance.aggregate_id == trip.trip_id)).one()
        left = [session.get(table, trip.trip_id) for table in (Seat, Charge)].count(None) == 0
        print(trip.trip_id, saga.status, trip.state, trip.seat, left, saga.error)
    print(session.query(LedgerEntry).filter_by(voided=False).count())
"""


def test_every_way_through_the_choreography_settles_seat_and_money(installed: dict[str, str], tmp_path: Path) -> None:
    environment = {**installed, "BROKER": "memory://", "DATABASE": f"sqlite:///{tmp_path}/trips.db"}
    environment["PYTHONPATH"] += os.pathsep + str(ROOT / "examples")

    assert run_python(["-c", CHOREOGRAPHED_TRIPS], environment, tmp_path).splitlines() == [
        "both compensated cancelled None False SeatUnavailable: there are four seats",
        "bus compensated cancelled None False SeatUnavailable: there are four seats",
        "cancelled compensated cancelled None False TripRefused: it was cancelled",
        "moon compensated cancelled None False CardRejected: over the limit",
        "overdue compensated cancelled None False TripRefused: it timed out",
        "sea completed confirmed 12A True None",
        "1",
    ]


def test_the_choreography_runs_on_a_worker(installed: dict[str, str], tmp_path: Path) -> None:
    with open_broker("rabbitmq") as broker, fresh_postgresql_database() as database:
        environment = {**installed, "BROKER": broker, "DATABASE": database}
        environment["PYTHONPATH"] += os.pathsep + str(ROOT / "examples")
        worker = [sys.executable, "-m", "celery", "-A", "trip_choreography", "worker", "-c", "2"]
        with running(worker, environment, tmp_path / "worker.log", lambda: True, tmp_path):
            run_python(["-m", "trip_choreography"], environment, tmp_path)
            expected = {"sea": "completed", "moon": "compensated", "bus": "compensated"}
            wait_for(str(expected), lambda: statuses(database) == expected)


def test_alembic_writes_a_migration_of_the_tables_that_runs(installed: dict[str, str], tmp_path: Path) -> None:
    _, imports = python_blocks(ENGINE_REFERENCE)["Tables"]
    alembic = ["-m", "alembic"]
    run_python([*alembic, "init", "migrations"], installed, tmp_path)
    for path, before, after in (
        ("alembic.ini", "driver://user:pass@localhost/dbname", "sqlite:///trips.db"),
        (
            "migrations/env.py",
            "target_metadata = None",
            "from durable_sagas import Sagas\ntarget_metadata = Sagas.metadata",
        ),
        ("migrations/script.py.mako", "import sqlalchemy as sa\n", f"import sqlalchemy as sa\n{imports}"),
    ):
        text_before = (tmp_path / path).read_text()
        assert before in text_before
        (tmp_path / path).write_text(text_before.replace(before, after, 1))

    run_python([*alembic, "revision", "--autogenerate", "-m", "sagas"], installed, tmp_path)
    run_python([*alembic, "upgrade", "head"], installed, tmp_path)

    assert "No new upgrade operations" in run_python([*alembic, "check"], installed, tmp_path)


BOTH_SCHEMAS = """
from celery import Celery
from pydantic import BaseModel
from sqlalchemy import MetaData, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from durable_sagas import Event, EventType, SagaInstance, Sagas, Step

{documented}

class Meeting(Base):
    __tablename__ = "events"
    id: Mapped[str] = mapped_column(primary_key=True)

class Message(BaseModel):
    id: str

with engine.begin() as connection:
    connection.execute(text("CREATE SCHEMA sagas"))
celery = Celery("meetings", broker="memory://")
celery.conf.task_always_eager = True
sessions = sessionmaker(engine)
sagas = Sagas(celery, sessions)

@sagas.command("meetings.arrange")
def arrange(session: Session, message: Message) -> Event:
    session.add(Meeting(id=message.id))
    return Event(EventType("Arranged"))

MEETING = sagas.saga("meeting", Step(arrange))
Base.metadata.create_all(engine)
sagas.metadata.create_all(engine)
with sessions.begin() as session:
    MEETING.start(session, "1", {"id": "1"})
sagas.sweep()
with engine.connect() as connection:
    for name in ("public.events", "sagas.events", "sagas.saga_instances"):
        print(name, connection.scalar(text("SELECT count(*) FROM " + name)))
"""


def test_an_application_with_tables_of_the_same_names_puts_the_engines_into_a_schema(
    installed: dict[str, str], tmp_path: Path
) -> None:
    require_postgresql()
    documented, _ = python_blocks(ENGINE_REFERENCE)["Tables"]
    with fresh_postgresql_database() as database:
        script = BOTH_SCHEMAS.replace("{documented}", f"url = {database!r}\n{documented}")

        assert run_python(["-c", script], installed, tmp_path).splitlines() == [
            "public.events 1",
            "sagas.events 1",
            "sagas.saga_instances 1",
        ]
