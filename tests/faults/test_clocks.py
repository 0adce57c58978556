"""A clock that jumps, and objects that arrive while a day is run: the rows are those of the objects that the run had listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from disturbed import DAY, Sources, arguments, run, seen, tables_seen, unlike

from flowlog_udfs import selection
from flowlog_udfs.arguments import STEP_NAMES
from flowlog_udfs.cli import parse_days
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.formats import plan_formats
from flowlog_udfs.ledger import versions
from flowlog_udfs.report.publishing import latest_report
from flowlog_udfs.tables import Warehouse

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 12, 12, tzinfo=timezone.utc)
CLOCKS = {
    "back by a year": [NOON - timedelta(days=365)] * 5,
    "ahead by a year": [NOON + timedelta(days=365)] * 5,
    "back and forth from step to step": [NOON + timedelta(hours=hours) for hours in (0, -7, 30, -9_000, 1)],
    "before the day itself": [datetime(1999, 12, 31, tzinfo=timezone.utc)] * 5,
}
"""What the clock says at each step of the second run; the first one was at noon of two days later."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources.make(tmp_path_factory.mktemp("logs"))


def run_at(spark, given: list[str], clock: list[datetime]) -> None:
    """A whole day, each step of which begins at a time of its own."""
    [asked] = parse_days("", given, STEP_NAMES)
    for step, now in zip(STEPS.values(), clock, strict=True):
        step(spark, replace(asked, now=now))


def test_a_clock_that_jumps(spark, sources: Sources, tmp_path: Path, tried: Callable[[str, int], None]):
    older, steady = tmp_path / "older", tmp_path / "steady"
    run_at(spark, arguments(sources.few, older), [NOON] * 5)
    shutil.copytree(older, steady)
    run_at(spark, arguments(sources.all, steady), [NOON] * 5)
    for name, clock in CLOCKS.items():
        warehouse = tmp_path / name.replace(" ", "-")
        shutil.copytree(older, warehouse)
        run_at(spark, arguments(sources.all, warehouse), clock)
        assert unlike(seen(warehouse), seen(steady)) == {}, name
        # Which version is the latest is told by its number, whatever its time says.
        first, second = versions(Warehouse.open(str(warehouse)), DAY)
        assert (first["published_at"], first["superseded_by"]) == (NOON, second["digest"])
        assert (second["published_at"], second["superseded_by"]) == (clock[-1], None)
        assert latest_report(Warehouse.open(str(warehouse)), DAY)["digest"] == second["digest"]
        [asked] = parse_days("", arguments(sources.all, warehouse), STEP_NAMES)
        assert remaining(asked) == ()
        # Retention counts from the machine's clock, by which delta-rs notes when a file was replaced.
        replaced = DeltaTable(warehouse / "records").history(1)[0]["timestamp"]
        assert abs(replaced / 1000 - datetime.now(timezone.utc).timestamp()) < 3600
    tried("clocks that jumped", len(CLOCKS))


def test_objects_that_arrive_while_the_day_is_run(
    spark, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[[str, int], None]
):
    """A few objects more appear between the listing and the first reading, before each of three runs."""
    arriving, warehouse = tmp_path / "logs", tmp_path / "tables"
    shutil.copytree(sources.few, arriving)
    late = sorted({path.relative_to(sources.all) for path in (sources.all / "AWSLogs").rglob("*.*")} - set(objects(arriving)))
    portions = [late[:2], late[2:5], late[5:]]
    on_their_way: list[Path] = []

    def plan(*given):
        while on_their_way:
            path = on_their_way.pop()
            shutil.copy2(sources.all / path, arriving / path)
        return plan_formats(*given)

    monkeypatch.setattr(selection, "plan_formats", plan)
    given = arguments(arriving, warehouse)
    [asked] = parse_days("", given, STEP_NAMES)
    for number in range(len(portions)):
        listed = objects(arriving)
        on_their_way += portions[number]
        assert run(spark, given) == (0, [])
        alone = tmp_path / f"alone-{number}"
        for path in listed:
            (alone / "logs" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(sources.all / path, alone / "logs" / path)
        assert run(spark, arguments(alone / "logs", alone / "tables", network=sources.all)) == (0, [])
        assert unlike(tables_seen(warehouse), tables_seen(alone / "tables")) == {}
        # What the run did not list is for the next one.
        assert remaining(asked) == STEP_NAMES
        tried("objects that arrived during a run", len(portions[number]))
    assert run(spark, given) == (0, [])
    assert remaining(asked) == ()
    assert sorted(objects(arriving)) == sorted(objects(sources.all))
    last = tmp_path / "last"
    assert run(spark, arguments(sources.all, last)) == (0, [])
    assert unlike(tables_seen(warehouse), tables_seen(last)) == {}


def objects(logs: Path) -> list[Path]:
    """The keys of a source."""
    return [path.relative_to(logs) for path in (logs / "AWSLogs").rglob("*.*")]
