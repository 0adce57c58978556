"""A run killed at any moment: readers have the old day or the new one in each table, and the next run makes all of it new."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from disturbed import DAY, Seen, Sources, arguments, complaints, rows_seen, run, seen, tables, unlike
from processes import VICTIMS, Job, started
from stored import log_entries, part_files, rows

from flowlog_udfs.arguments import STEP_NAMES
from flowlog_udfs.cli import parse_days
from flowlog_udfs.day import remaining

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="kills a JVM and its workers")]

COMMITS = (
    *("objects", "coverage", "records", "records_tgw", "rejects", "tallies", "nat_legs", "interfaces", "connections", "nat_mappings"),
    *("subnet_bytes", "reconciliation", "external_peers", "assessments", "findings", "runs"),
)
"""The tables in the order in which a run replaces them."""
SECONDS = {"ingest_records": 4.0, "attribute_initiators": 2.5, "map_nat": 1.2, "total_subnet_bytes": 1.2, "report_compliance": 2.0}
"""About how long the steps of the small day take."""
KILLS = {"delta": (5, 40), "parquet": (1, 10)}
"""How many kills the short form and the long one have."""


@dataclass(frozen=True)
class Kill:
    """Who dies, so many seconds after a step began or a table was replaced."""

    table_format: str
    victim: str
    moment: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.table_format}-{self.victim}-{self.moment}+{self.seconds:.2f}s"


def kills(table_format: str, count: int) -> Iterator[Kill]:
    """Moments in every step, and right after tables were replaced, in turn, and each victim in turn."""
    drawn = random.Random(f"{table_format} {count}")
    for number in range(count):
        victim = VICTIMS[(2 * number + number // 6) % 3]
        if number % 2:
            yield Kill(table_format, victim, COMMITS[number // 2 * 7 % len(COMMITS)], drawn.choice((0.0, 0.0, 0.002, 0.01)))
        else:
            step = STEP_NAMES[number // 2 % len(STEP_NAMES)]
            yield Kill(table_format, victim, step, drawn.random() * SECONDS[step])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        soak = metafunc.config.getoption("--soak")
        metafunc.parametrize("kill", [one for name, counts in KILLS.items() for one in kills(name, counts[soak])], ids=str)


@dataclass(frozen=True)
class Whole:
    """Two versions of the day: the tables of the older one, and what readers see of either, and of what is between, undisturbed."""

    sources: Sources
    old_tables: Path
    states: tuple[Seen, Seen, Seen]
    options: tuple[str, ...]


@pytest.fixture(scope="module")
def whole(spark_session, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """The two versions of the day in tables of a format."""
    sources = Sources.make(tmp_path_factory.mktemp("logs"))
    made: dict[str, Whole] = {}

    def of(table_format: str) -> Whole:
        if table_format not in made:
            folder, options = tmp_path_factory.mktemp(table_format), ("--table-format", table_format)
            assert run(spark_session, arguments(sources.few, folder / "old", *options)) == (0, [])
            old = seen(folder / "old")
            shutil.copytree(folder / "old", folder / "new")
            assert run(spark_session, arguments(sources.all, folder / "new", *options)) == (0, [])
            new = seen(folder / "new")
            assert sorted(tables(folder / "new")) == sorted(COMMITS)
            # A table that is the same on both days would show nothing.
            assert {name for name in new if new[name] == old[name]} <= {"records_tgw"}
            # Table `connections` has a state in between: what only pairs of legs tell is filled in by `map_nat`.
            shutil.copytree(folder / "old", folder / "between")
            until = ("--until", "attribute_initiators", *options)
            assert run(spark_session, arguments(sources.all, folder / "between", *until)) == (0, [])
            unmarked = {"connections": rows_seen(folder / "between" / "connections")}
            assert unmarked["connections"] not in (old["connections"], new["connections"])
            made[table_format] = Whole(sources, folder / "old", (old, unmarked, new), options)
        return made[table_format]

    return of


def replacements(warehouse: Path, table: str) -> object:
    """What changes whenever a table is replaced."""
    log = warehouse / table / "_delta_log"
    if log.exists():
        return len(list(log.glob("*.json")))
    try:
        return (warehouse / table / f"day={DAY}").stat().st_ino
    except FileNotFoundError:
        return None


def await_moment(job: Job, warehouse: Path, kill: Kill) -> None:
    """Return at the moment of the kill, or when the job has ended."""
    before = replacements(warehouse, kill.moment) if kill.moment in COMMITS else None
    begin = f"flowlog: {kill.moment}: {DAY} …"
    while job.process.poll() is None:
        if replacements(warehouse, kill.moment) != before if kill.moment in COMMITS else begin in job.lines:
            time.sleep(kill.seconds)
            return
        time.sleep(0.002)


@contextmanager
def watching(warehouse: Path, *wholes: Seen) -> Iterator[list[dict[str, str]]]:
    """What a reader, who looks again and again, finds that is of no whole day."""
    ended, strange = threading.Event(), list[dict[str, str]]()
    looks = [0]

    def look() -> None:
        while not ended.wait(0.5):
            try:
                strange.extend(filter(None, [unlike(seen(warehouse), *wholes)]))
            except Exception as error:
                strange.append({type(error).__name__: str(error)})
            looks[0] += 1

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield strange
    finally:
        ended.set()
        reader.join()
    assert looks[0]


def test_a_killed_run(kill: Kill, whole: Callable[[str], Whole], spark, tmp_path: Path, tried: Callable[[str, int], None]):
    day = whole(kill.table_format)
    warehouse = tmp_path / "tables"
    shutil.copytree(day.old_tables, warehouse)
    before, given = part_files(warehouse), arguments(day.sources.all, warehouse, *day.options)
    with watching(warehouse, *day.states) as strange, started(*given) as job:
        await_moment(job, warehouse, kill)
        assert job.kill(kill.victim), f"the run had ended before the moment: {job.told}"
        status = job.wait()
    # Who reads Parquet while a folder is being swapped may find neither.
    assert strange == [] or kill.table_format == "parquet"
    if kill.victim == "worker":
        # Spark has workers again; a task that died is not tried again on one machine.
        told = complaints(job.told)
        assert (status, len(told)) in ((0, 0), (3, 1)), job.told
        assert all(line.startswith("flowlog: the engine failed: ") for line in told)
    else:
        # After the last commit there is little left to die in.
        assert status != 0 or kill.moment == "runs"
    after = seen(warehouse)
    assert unlike(after, *day.states) == {}
    tried(f"runs killed ({kill.victim})", 1)
    left = unseen(warehouse, kill.table_format, before)
    tried("part files that a killed run left, unseen by readers", len(left))
    for name in sorted({path.split("/")[0] for path in left})[:1]:
        # Spark, which lists folders by itself, does not see them either.
        assert spark.read.format(kill.table_format).load(str(warehouse / name)).count() == len(rows(warehouse, name))
    # A backfill that is taken up again passes over what is done, and nothing else.
    [asked] = parse_days("", given, STEP_NAMES)
    assert (remaining(asked) == ()) == (unlike(after, day.states[-1]) == {})
    assert run(spark, given) == (0, [])
    assert unlike(seen(warehouse), day.states[-1]) == {}
    assert remaining(asked) == ()


def unseen(warehouse: Path, table_format: str, before: set[str]) -> list[str]:
    """The part files written since `before` that no reader was ever shown."""
    written = {path for path in part_files(warehouse) - before if path.endswith(".parquet") and not path.startswith(".scratch")}
    if table_format == "delta":
        return sorted(written - {f"{name}/{add['path']}" for name in tables(warehouse) for add in log_entries(warehouse, name, "add")})
    return sorted(path for path in written if f"/day={DAY}/" not in path)
