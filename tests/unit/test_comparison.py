"""The comparison with other engines: medians, ratios and the page; and of two sets of tables, whatever differs must show."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks import compare as comparing
from tests.benchmarks.agreement import Agreement, Tables, compare
from tests.benchmarks.days import SampleDay
from tests.benchmarks.engines import ENGINES
from tests.benchmarks.figures import Figure, Section, beyond_startup, page, ratio, table
from tests.benchmarks.measure import Cost

MIDNIGHT = datetime(2026, 3, 10, tzinfo=timezone.utc)
NOON = MIDNIGHT + timedelta(hours=12)
COLUMNS = ("srcaddr", "bytes", "packets", "start", "end")
Row = dict[str, Any]
ROW: Row = {"srcaddr": "10.0.1.5", "bytes": 100, "packets": 2, "start": 1, "end": 2, "start_time": NOON, "end_time": NOON}
TOTAL: Row = {"hour": NOON, "subnet_id": "subnet-1", "action": "ACCEPT", "bytes": 100, "packets": 2, "records": 1}
CONNECTION: Row = {
    "initiator_addr": "10.0.1.5",
    "initiator_port": 40000,
    "responder_addr": "10.0.2.7",
    "responder_port": 443,
    "protocol": 6,
    "bytes_sent": 1000,
    "bytes_received": 9000,
    "packets_sent": 10,
    "packets_received": 20,
    "records": 4,
    "first_start": NOON,
    "last_end": NOON + timedelta(minutes=5),
    "by_flags": True,
}


def cost(cpu: float, wall: float, peak: int) -> Cost:
    return Cost(cpu, wall, peak // 2, 0, 0, peak)


def test_a_figure_is_the_median_beyond_startup():
    tiny = [cost(10, 5, 1), cost(12, 6, 1), cost(50, 7, 1)]
    whole = [cost(20, 9, 300), cost(16, 8, 100), cost(90, 20, 200)]
    found = Figure.of(tiny, whole, 2_000_000)
    assert found == Figure(4.0, 3.0, peak_bytes=200, worker_bytes=100, startup_cpu=12, startup_wall=6, runs=3)


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [(1.0, 4.0, "0.25"), (4.0, 4.0, "1.00"), (4.0, None, ""), (4.0, 0.0, ""), (4.0, -1.0, ""), (-4.0, 2.0, "")],
)
def test_a_ratio_needs_two_figures(value: float, base: float | None, text: str):
    assert ratio(value, base) == text


def test_what_startup_hides_is_no_figure():
    assert (beyond_startup(1.234, 2), beyond_startup(-0.5, 2)) == ("1.23", "none beyond start-up")


def test_the_table_has_a_row_for_each_task_and_engine_and_says_why_one_is_missing():
    figures = {
        ("flowlog", "a"): Figure(4.0, 8.0, 1 << 30, 300 << 20, 20.0, 10.0, 3),
        ("duckdb", "a"): Figure(1.0, 2.0, 256 << 20, 0, 0.2, 0.3, 3),
    }
    section = Section("announcement", 1_000_000, 26_000_000, figures, ["a: 9 rows"], {("slow", "a"): "too slow"})
    assert table(section, ["flowlog", "duckdb", "slow", "other"], ["a"]).splitlines()[2:] == [
        "| a | flowlog | 4.00 | 1.00 | 8.0 | 1.00 | 1,024 | 300 | 20.0 | 10.0 | 3 |",
        "| a | duckdb | 1.00 | 0.25 | 2.0 | 0.25 | 256 |  | 0.2 | 0.3 | 3 |",
        "| a | slow | too slow | | | | | | | | |",
    ]
    text = page(["Machine."], [section], ["flowlog", "duckdb"], ["a"], ["A note."])
    assert text.startswith(
        "# flowlog beside its peers\n\nMachine.\n\n- a: raw to a columnar table\n\nA note.\n\n## 1,000,000 records, 21 fields"
    )
    assert text.endswith("All tables agree:\n\n- a: 9 rows\n")


PYTHONS = dict.fromkeys(("spark", "sail", "peers"), "python")


def test_every_engine_has_a_command_without_this_machines_paths_in_its_name():
    for engine in ENGINES:
        command = engine.command("d", Path("source"), Path("output"), MIDNIGHT.date(), PYTHONS)
        assert command[0] in ("python", "spark-submit")
        assert "source" in command and "output" in command


def written(folder: Path, name: str, task: str, rows: list[Row]) -> Tables:
    (folder / name / task).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name / task / "part.parquet")
    return Tables.of_peer(folder / name, task)


def compared(folder: Path, task: str, mine: list[Row], theirs: list[Row]) -> Agreement:
    tables = (written(folder, "mine", task, mine), written(folder, "theirs", task, theirs))
    return compare(task, *tables, COLUMNS, round(MIDNIGHT.timestamp()))


@pytest.mark.parametrize(("task", "row"), [("a", ROW), ("b", TOTAL), ("c", CONNECTION)])
def test_equal_tables_agree(tmp_path: Path, task: str, row: Row):
    found = compared(tmp_path, task, [row], [row])
    assert found.faults == []
    assert len(found.said) == 1


CHANGED = [
    *(("a", ROW, {name: value}) for name, value in {"srcaddr": None, "bytes": 101, "start": 2, "end_time": MIDNIGHT}.items()),
    *(("b", TOTAL, {name: value}) for name, value in {"hour": MIDNIGHT, "action": "REJECT", "packets": 3, "records": 2}.items()),
    *(("c", CONNECTION, {name: value}) for name, value in {"protocol": 17, "bytes_sent": 1001, "packets_received": 21}.items()),
    *(("c", CONNECTION, {name: value}) for name, value in {"records": 5, "last_end": NOON, "by_flags": False}.items()),
]


@pytest.mark.parametrize(("task", "row", "change"), CHANGED, ids=lambda value: str(value)[:24])
def test_whatever_differs_is_a_fault(tmp_path: Path, task: str, row: Row, change: Row):
    assert compared(tmp_path, task, [row], [row | change]).faults


@pytest.mark.parametrize(("task", "row"), [("a", ROW), ("b", TOTAL), ("c", CONNECTION)])
def test_a_missing_row_is_a_fault(tmp_path: Path, task: str, row: Row):
    other = row | {"srcaddr": "10.0.1.6", "subnet_id": "subnet-2", "initiator_port": 40001}
    other = {name: other[name] for name in row}
    assert compared(tmp_path, task, [row, other], [row]).faults


def turned(row: Row) -> Row:
    """The same connection, said to be opened by the other end."""
    swapped = {"initiator": "responder", "responder": "initiator"}
    ends = {f"{swapped[end]}_{part}": row[f"{end}_{part}"] for end in swapped for part in ("addr", "port")}
    ways = {
        f"{what}_{way}": row[f"{what}_{other}"]
        for what in ("bytes", "packets")
        for way, other in (("sent", "received"), ("received", "sent"))
    }
    return row | ends | ways


def test_another_initiator_is_a_fault_where_flags_tell(tmp_path: Path):
    found = compared(tmp_path, "c", [CONNECTION], [turned(CONNECTION)])
    assert found.faults == ["c: 1 connections are of another initiator"]


def test_another_initiator_is_said_where_only_ports_tell(tmp_path: Path):
    row = CONNECTION | {"by_flags": False}
    found = compared(tmp_path, "c", [row], [turned(row)])
    assert found.faults == []
    assert found.said[0].endswith("1 initiators without flags differ")


def test_other_initiators_are_a_fault_where_many_differ(tmp_path: Path):
    rows = [CONNECTION | {"by_flags": False, "initiator_port": port} for port in range(40_000, 40_003)]
    found = compared(tmp_path, "c", rows, [turned(row) for row in rows])
    assert found.faults == ["c: 3 of 3 initiators without flags differ"]


def test_episodes_of_a_five_tuple_are_compared_as_one(tmp_path: Path):
    first = CONNECTION | {"bytes_sent": 400, "packets_sent": 4, "records": 1, "last_end": NOON}
    second = CONNECTION | {"bytes_sent": 600, "packets_sent": 6, "records": 3, "bytes_received": 0, "packets_received": 0}
    assert compared(tmp_path, "c", [first, second], [CONNECTION]).faults == []


@pytest.mark.parametrize(
    ("start", "packets", "faults"),
    [(timedelta(seconds=30), 12, 0), (timedelta(seconds=30), 13, 1), (timedelta(minutes=3), 12, 1)],
    ids=["few packets at midnight", "many packets at midnight", "few packets later"],
)
def test_only_few_packets_at_midnight_may_differ(tmp_path: Path, start: timedelta, packets: int, faults: int):
    row = CONNECTION | {"first_start": MIDNIGHT + start}
    found = compared(tmp_path, "c", [row], [row | {"packets_sent": packets, "bytes_sent": 1200}])
    assert len(found.faults) == faults
    assert ("differ at midnight" in found.said[0]) == (not faults)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines only note the name of their script; each run costs a second more than the one before. Nobody looks at their tables."""
    notes: list[str] = []

    def run(command: list[str], folder: Path) -> Cost:
        script = next(word for word in command if word.endswith(".py") or word.startswith("tests."))
        notes.append(script.removesuffix(".py").replace("/", ".").rsplit(".", 1)[-1])
        return cost(len(notes), len(notes), 0)

    monkeypatch.setattr(comparing, "run_and_measure", run)
    monkeypatch.setattr(comparing, "compare", lambda *_: Agreement(["the same"]))
    monkeypatch.setattr(comparing.Engine, "tables", lambda *_: None)
    return notes


TINY, WHOLE = (SampleDay(Path(name), records, 1, ()) for name, records in (("tiny", 0), ("whole", 1_000_000)))


def compare_engines(tasks: str, form: str, rounds: int, smallest: bool, tmp_path: Path) -> Section:
    comparison = comparing.Comparison(ENGINES, tuple(tasks), PYTHONS, tmp_path)
    return comparison.section(form, TINY, WHOLE, rounds, smallest)


def test_every_engine_runs_a_tiny_and_a_whole_day_in_every_round(ran: list[str], tmp_path: Path):
    section = compare_engines("abcd", "announcement", 2, True, tmp_path)
    assert ran.count("duckdb") == ran.count("plain_spark") == 2 * 4 * 2
    assert ran.count("run_day") == 2 * 2 * 3 * 2  # on Spark and on Sail; b and d are one command
    assert ran.count("flowlogs_reader") == 4 * 2  # slow: one round
    assert ran.count("inflate") == 2 * 2
    assert section.figures["flowlog", "b"] == section.figures["flowlog", "d"]
    assert section.figures["duckdb", "a"].cpu_per_million == 1.0
    assert section.agreed == [f"{task}: the same" for task in "abcd"]


def test_a_single_task_runs_alone(ran: list[str], tmp_path: Path):
    section = compare_engines("b", "announcement", 1, False, tmp_path)
    assert {task for _, task in section.figures} == {"b", "floor"}
    assert ran.count("run_day") == 2 * 2
    assert section.reasons == {("flowlogs-reader", "b"): "too slow: only the smallest day"}


def test_what_cannot_read_parquet_says_so(ran: list[str], tmp_path: Path):
    section = compare_engines("a", "parquet", 1, True, tmp_path)
    assert ran.count("flowlogs_reader") == ran.count("inflate") == 0
    assert section.reasons == {("flowlogs-reader", "a"): "cannot read this format", ("isal", "floor"): "nothing to inflate"}
