"""How a day is read: what vanishes, what is too large to hold back, how the work is cut, and what memory it takes."""

import gzip
import os
from datetime import datetime, timezone
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from logtree import DAY, V2, LogTree, at, packed, row
from running import RunDay
from stored import part_files, rows

from flowlog_udfs import ingest, selection
from flowlog_udfs.blocks import BLOCK_BYTES
from flowlog_udfs.config import Config
from flowlog_udfs.exchange import task_items
from flowlog_udfs.formats import LogFormat, plan_formats
from flowlog_udfs.keys import FlowLogKey, ListedObject
from flowlog_udfs.objects import LISTED_COLUMNS
from flowlog_udfs.records import RECORDS, to_records
from flowlog_udfs.selection import LISTED_VALUES, Selection, even_object_tasks, prepare
from flowlog_udfs.storage import StoredObject
from flowlog_udfs.tables import Warehouse


@pytest.fixture
def tree(tmp_path: Path) -> LogTree:
    """An empty source at `tmp_path / "logs"`."""
    return LogTree.in_folder(tmp_path / "logs")


def test_objects_that_vanish_or_change_after_the_listing(run: RunDay, tree: LogTree, tmp_path, monkeypatch):
    for number in range(198):
        tree.text("10T0005", [row(at("10T00:01:00"), port=number)], mark=number)
    gone = tree.text("10T0010", [row(at("10T00:06:00"))], mark=300)
    replaced = tree.text("10T0010", [row(at("10T00:06:00"))], mark=301)

    def disturbed_plan(*arguments):
        (tmp_path / "logs" / gone).unlink()
        tree.text("10T0010", [row(at("10T00:06:00"))] * 2, mark=301)
        return plan_formats(*arguments)

    monkeypatch.setattr(selection, "plan_formats", disturbed_plan)
    assert run(tmp_path / "logs", tmp_path / "tables") == 0
    failed = {row["key"]: row["error"] for row in rows(tmp_path / "tables", "objects") if row["status"] == "failed"}
    assert failed == {
        gone: "gone: the object vanished between listing and reading",
        replaced: "replaced: the object changed between listing and reading",
    }
    assert len(rows(tmp_path / "tables", "records")) == 198


DAMAGED = {
    "truncated gzip": (".log.gz", packed([V2, row(at("10T00:01:00"))])[:-4]),
    "wrong checksum": (".log.gz", packed([V2, row(at("10T00:01:00"))])[:-8] + bytes(8)),
    "empty": (".log.gz", b""),
    "not gzip at all": (".log.gz", b"\x1f\x8bnonsense"),
    "Parquet cut short": (".log.parquet", b"PAR1" + bytes(100)),
    "not a flow log": (".log", b"<html>\nnot here\n</html>\n"),
}


def test_every_kind_of_damage_is_one_row_of_objects(run: RunDay, tree: LogTree, tmp_path):
    """Each below a flow log of its own, so that no format is known from another object."""
    tree.text("10T0005", [row(at("10T00:01:00"), port=number) for number in range(10)])
    keys = {
        name: tree.put("10T0010", content, extension=extension, flow_log=f"fl-{number}")
        for number, (name, (extension, content)) in enumerate(DAMAGED.items())
    }
    (tmp_path / "flowlog.toml").write_text("[ingest]\nmax_failed_share = 0.9\n")
    assert run(tmp_path / "logs", tmp_path / "tables", "--config", str(tmp_path / "flowlog.toml")) == 0
    objects = {row["key"]: row for row in rows(tmp_path / "tables", "objects")}
    for name, key in keys.items():
        found = objects[key]
        assert found["status"] == "failed", name
        assert found["error"], name
        assert [found[count] for count in ("lines", "headers", "blank", "records", "rejects", "other_day")] == [0] * 6, name
    assert len(rows(tmp_path / "tables", "records")) == 10
    assert rows(tmp_path / "tables", "rejects") == []


def large_object(tree: LogTree, published: str, lines: int, *, cut: int = 0) -> str:
    """An object of several blocks, cut off before its end when asked; every fiftieth line is a reject."""
    body = [row(at("10T00:01:00"), port=number % 60_000, protocol="six" if number % 50 == 0 else 6) for number in range(lines)]
    content = gzip.compress("".join(f"{line}\n" for line in [V2, *body]).encode(), 1, mtime=0)
    return tree.put(published, content[: len(content) - cut])


def ingest_in_this_process(source: Path, warehouse: Path) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """One task over all objects: the rows of `objects` by key, and the part files by table."""
    storage, listing, plan = prepare(Selection(str(source), DAY), Config())
    listed = task_items([listing.objects], LISTED_VALUES, LISTED_COLUMNS).drop_columns("task")
    task = ingest._ingest_task(listed.to_batches(), storage=storage, warehouse=Warehouse.open(str(warehouse)), plan=plan)
    outcomes = pa.Table.from_batches(task).to_pylist()
    objects = {outcome["object"]["key"]: outcome["object"] for outcome in outcomes if outcome["object"]}
    written: dict[str, list[dict]] = {}
    for outcome in outcomes:
        if outcome["part"]:
            written.setdefault(outcome["table"], []).append(outcome["part"])
    return objects, written


def test_a_large_object_gets_part_files_of_its_own(tree: LogTree, tmp_path, monkeypatch):
    lines = 3 * BLOCK_BYTES // 100
    small = [tree.text(f"10T00{minute:02}", [row(at("10T00:01:00"))]) for minute in (5, 15)]
    large = large_object(tree, "10T0010", lines)
    monkeypatch.setattr(ingest, "HELD_BYTES", 1 << 20)
    objects, written = ingest_in_this_process(tmp_path / "logs", tmp_path / "tables")
    assert (objects[large]["records"], objects[large]["rejects"]) == (lines - (lines + 49) // 50, (lines + 49) // 50)
    assert [objects[key]["records"] for key in small] == [1, 1]
    # The small ones share a file, the large one has its own.
    assert sorted(part["rows"] for part in written["records"]) == [2, objects[large]["records"]]
    assert [part["rows"] for part in written["rejects"]] == [objects[large]["rejects"]]
    assert part_files(tmp_path / "tables") == {part["key"] for found in written.values() for part in found}


def test_a_large_object_that_turns_out_damaged_leaves_no_part_file(tree: LogTree, tmp_path, monkeypatch):
    small = tree.text("10T0005", [row(at("10T00:01:00"))])
    large = large_object(tree, "10T0010", 3 * BLOCK_BYTES // 100, cut=1)
    monkeypatch.setattr(ingest, "HELD_BYTES", 1 << 20)
    objects, written = ingest_in_this_process(tmp_path / "logs", tmp_path / "tables")
    assert (objects[large]["status"], objects[large]["error"]) == ("failed", "damaged: the gzip stream is cut short")
    assert [objects[large][count] for count in ("lines", "records", "rejects", "bytes")] == [0] * 4
    assert objects[small]["records"] == 1
    assert {table: [part["rows"] for part in found] for table, found in written.items()} == {"records": [1]}
    assert part_files(tmp_path / "tables") == {written["records"][0]["key"]}


def listed(number: int, size: int) -> ListedObject:
    moment = datetime(2026, 3, 10, tzinfo=timezone.utc)
    return ListedObject(StoredObject(f"key-{number:06}", "e", size, moment), FlowLogKey("1", "r", "fl-1", moment, "plain"))


def test_tasks_are_even_and_always_the_same():
    objects = [listed(number, 1_000_000 + 7_919 * number % 999_983) for number in range(2_000)]
    tasks = even_object_tasks(objects, 128 << 20)
    sizes = [sum(one.stored.size_bytes for one in task) for task in tasks]
    assert sum(map(len, tasks)) == 2_000
    assert max(sizes) <= 128 << 20
    assert max(sizes) - min(sizes) <= 2_000_000
    assert even_object_tasks(list(reversed(objects)), 128 << 20) == tasks


def test_many_small_objects_are_not_one_task():
    """Opening an object costs whatever its size, so objects without bytes have weight too."""
    tasks = even_object_tasks([listed(number, 100) for number in range(20_000)], 128 << 20)
    assert max(map(len, tasks)) <= (128 << 20) // selection.OBJECT_BYTES
    # Few tiny objects are one task per core at the most, and never more tasks than objects.
    assert len(even_object_tasks([listed(1, 10), listed(2, 10)], 128 << 20)) == 1
    assert len(even_object_tasks([listed(number, 1 << 30) for number in range(3)], 128 << 20)) == 3


def test_memory_does_not_grow_with_the_number_of_small_objects(tmp_path):
    """Of an object with one row nearly all memory is overhead: 3,000 held apart took 340 MB."""
    columns = pa.table({"start": pa.array([at("10T00:01:00")], pa.int64())})
    writer = Warehouse.open(str(tmp_path)).writer(ingest.RECORDS_TABLE, DAY)
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    for number in range(3_000):
        found, _ = to_records(columns, LogFormat(("start",)), day=DAY, object_day=DAY, flow_log_id="fl-1", object_key=f"key-{number}")
        writer.write(found)
    grown = process.memory_info().rss - before
    [part] = writer.close()
    assert (part.rows, found.schema) == (3_000, RECORDS)
    assert grown < 120 << 20
