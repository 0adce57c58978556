"""Several runs at once into one warehouse: each table is whole of one of them, and tables of different runs do not pass for a day.

What is promised of two runs of one day with Delta: every table is at all times what one of them made of it, and when both have ended either
all tables and the report are of one run, or the one that was last to look has ended with status 3, and running the day again mends it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from disturbed import DAY, Seen, Sources, arguments, rows_seen, run, tables_seen, unlike
from processes import started
from test_kills import COMMITS

from flowlog_udfs.report.publishing import latest_report
from flowlog_udfs.reporting import is_standing
from flowlog_udfs.tables import Warehouse

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="is about commits, which are the same on either engine")]

NEXT_DAY = DAY + timedelta(days=1)
PAUSES = ("records", "connections", "subnet_bytes", "runs")
"""Where the short form has one run stand still while another passes it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pause" in metafunc.fixturenames:
        metafunc.parametrize("pause", COMMITS if metafunc.config.getoption("--soak") else PAUSES)


@dataclass(frozen=True)
class Alone:
    """Two days of logs, of the first of which there is an earlier state, and what readers see of each run that was not disturbed.

    `settled` is a day run after the other; `unmarked` is table `connections` before `map_nat` fills in what only pairs of legs tell.
    """

    sources: Sources
    few: Seen
    all: Seen
    next_day: Seen
    settled: dict[date, Seen]
    unmarked: tuple[Seen, Seen]


@pytest.fixture(scope="module")
def alone(spark_session, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    sources = Sources.make(folder, days=2)

    def done(name: str, source: Path, day: date) -> Seen:
        assert run(spark_session, arguments(source, folder / name, day=day)) == (0, [])
        return tables_seen(folder / name, day)

    few, whole, after = (done(*one) for one in (("few-t", sources.few, DAY), ("t", sources.all, DAY), ("after", sources.all, NEXT_DAY)))
    settled = {day: done("t", sources.all, day) for day in (NEXT_DAY, DAY)}
    unmarked = {name: {"connections": rows_seen(folder / name / "connections", version=0)} for name in ("few-t", "t")}
    return Alone(sources, few, whole, after, settled, (unmarked["few-t"], unmarked["t"]))


class Paused:
    """Stops the thread of a name before it replaces a table for the first time, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, table: str, thread: str) -> None:
        self.reached, self.goes_on = threading.Event(), threading.Event()
        replace_day = Warehouse.replace_day

        def waiting(warehouse: Warehouse, replaced, *given, **options) -> None:
            if threading.current_thread().name == thread and replaced.name == table and not self.reached.is_set():
                self.reached.set()
                assert self.goes_on.wait(300)
            replace_day(warehouse, replaced, *given, **options)

        monkeypatch.setattr(Warehouse, "replace_day", waiting)


def test_one_run_overtakes_another_of_the_same_day(
    pause: str, alone: Alone, spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[[str, int], None]
):
    """The one that has read fewer objects stands still before it replaces a table, while the other runs from its beginning to its end."""
    warehouse = tmp_path / "tables"
    paused = Paused(monkeypatch, pause, "slow")
    ended: list[tuple[int, list[str]]] = []
    slow = threading.Thread(target=lambda: ended.append(run(spark, arguments(alone.sources.few, warehouse))), name="slow")
    slow.start()
    assert paused.reached.wait(300)
    fast = run(spark, arguments(alone.sources.all, warehouse))
    paused.goes_on.set()
    slow.join(300)
    # The fast one was the last to look while the slow one stood still.
    assert fast == (0, [])
    [(status, told)] = ended
    found = tables_seen(warehouse)
    assert unlike(found, alone.few, alone.all, *alone.unmarked) == {}
    tried("pairs of runs of one day at once", 1)
    if status == 0:
        assert (told, unlike(found, alone.few), standing(warehouse)) == ([], {}, True)
    else:
        assert status == 3
        assert re.fullmatch(rf"flowlog: {DAY}: .*; run the day again", told[0]), told
        assert len(told) == 1
    # Only a run that replaces the first table after the other has ended is whole.
    assert (status == 0) == (pause == COMMITS[0])
    assert run(spark, arguments(alone.sources.all, warehouse)) == (0, [])
    assert (unlike(tables_seen(warehouse), alone.all), standing(warehouse)) == ({}, True)


def standing(warehouse: Path, day: date = DAY) -> bool:
    """Whether tables and report of the day are of each other."""
    opened = Warehouse.open(str(warehouse))
    return is_standing(opened, day, latest_report(opened, day)["digest"])


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where logs and tables lie."""
    if request.param == "folder":
        yield Place(None, tmp_path)
        return
    yield Place(request.getfixturevalue("s3")(), tmp_path)


@dataclass
class Place:
    """A folder, or a bucket with a folder beside it for copies of it."""

    bucket: str | None
    folder: Path

    @property
    def warehouse(self) -> str:
        return f"s3://{self.bucket}/tables" if self.bucket else str(self.folder / "tables")

    def source(self, logs: Path) -> str:
        """The logs where they can be read from; a bucket of their own, so that keys are the same."""
        if not self.bucket:
            return str(logs)
        client, name = boto3.client("s3"), f"{self.bucket}-{logs.name}"
        client.create_bucket(Bucket=name)
        for path in (logs / "AWSLogs").rglob("*.*"):
            client.upload_file(str(path), name, str(path.relative_to(logs)))
        return f"s3://{name}"

    def tables(self) -> Path:
        """The warehouse as a folder."""
        if not self.bucket:
            return self.folder / "tables"
        copy = self.folder / f"copy-{len(list(self.folder.iterdir()))}"
        for entry in boto3.resource("s3").Bucket(self.bucket).objects.filter(Prefix="tables/"):
            path = copy / entry.key.removeprefix("tables/")
            path.parent.mkdir(parents=True, exist_ok=True)
            boto3.client("s3").download_file(self.bucket, entry.key, str(path))
        return copy


def at_once(*given: list[str]) -> list[int]:
    """The exit statuses of runs under spark-submit that began together.

    Processes of their own: delta-rs reads a table's history without letting go of Python, in which the S3 of these tests runs too.
    """
    with ExitStack() as running:
        jobs = [running.enter_context(started(*argv)) for argv in given]
        return [job.wait() for job in jobs]


def test_one_day_twice_at_once(place: Place, alone: Alone, tried: Callable[[str, int], None]):
    given = [arguments(place.source(logs), place.warehouse, network=alone.sources.all) for logs in (alone.sources.few, alone.sources.all)]
    statuses = at_once(*given)
    found = place.tables()
    assert unlike(tables_seen(found), alone.few, alone.all, *alone.unmarked) == {}
    assert set(statuses) <= {0, 3}
    # Not a mix unless somebody was told.
    whole = any(unlike(tables_seen(found), one) == {} for one in (alone.few, alone.all)) and standing(found)
    assert whole or 3 in statuses
    tried("pairs of runs of one day at once", 1)
    if not whole:
        assert at_once(given[1]) == [0]
        assert (unlike(tables_seen(place.tables()), alone.all), standing(place.tables())) == ({}, True)


def test_two_days_at_once(place: Place, alone: Alone, tried: Callable[[str, int], None]):
    source = place.source(alone.sources.all)
    given = [arguments(source, place.warehouse, network=alone.sources.all, day=day) for day in (DAY, NEXT_DAY)]
    assert at_once(*given) == [0, 0]
    found = place.tables()
    assert unlike(tables_seen(found), alone.all, alone.settled[DAY]) == {}
    # The later day is judged by as many days before it as were there.
    different = unlike(tables_seen(found, NEXT_DAY), alone.next_day, alone.settled[NEXT_DAY])
    assert different.keys() <= {"findings", "assessments"}
    assert standing(found) and standing(found, NEXT_DAY)
    tried("pairs of runs of two days at once", 1)
    assert at_once(given[1]) == [0]
    assert unlike(tables_seen(place.tables(), NEXT_DAY), alone.settled[NEXT_DAY]) == {}


def test_the_s3_of_these_tests_has_conditional_puts(s3: Callable[[], str]):
    """delta-rs commits by If-None-Match; without it two commits of one number would both be taken."""
    bucket, client = s3(), boto3.client("s3")
    etag = client.put_object(Bucket=bucket, Key="0.json", Body=b"first", IfNoneMatch="*")["ETag"]
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"other"'}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=bucket, Key="0.json", Body=b"second", **condition)
    with pytest.raises(ClientError, match=r"\(412\)|PreconditionFailed"):
        client.get_object(Bucket=bucket, Key="0.json", IfMatch='"other"')
    assert client.get_object(Bucket=bucket, Key="0.json", IfMatch=etag)["Body"].read() == b"first"
