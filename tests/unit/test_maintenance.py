"""The upkeep of tables: the same rows in fewer files, former states and orphans gone when they are old, and no day without its origin."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from flowlog_udfs import compaction, delta, delta_log
from flowlog_udfs.cli import run_maintenance
from flowlog_udfs.command import main
from flowlog_udfs.compaction import conformed
from flowlog_udfs.errors import UsageError
from flowlog_udfs.ingest import OBJECTS, REJECTS
from flowlog_udfs.ledger import SIGNOFFS, SIGNOFFS_TABLE
from flowlog_udfs.maintenance import Upkeep, maintain
from flowlog_udfs.tables import Warehouse

DAY = date(2026, 3, 10)
DAYS = timedelta(days=1)
NOW = datetime.now(timezone.utc)
LONG_AGO = time.time() - 400 * 86_400


def rejects(first: int, count: int) -> pa.Table:
    rows = [{"object_key": "a", "line_number": number, "line": "x" * 40, "reason": "bad_number"} for number in range(first, first + count)]
    return pa.Table.from_pylist(rows, REJECTS.schema)


def fill(warehouse: Warehouse, day: date, files: int = 4, *, inputs: str = "first") -> None:
    """A day of rejects in so many files."""
    parts = [part for number in range(files) for part in warehouse.write_rows(REJECTS, day, rejects(number * 10, 10))]
    warehouse.replace_day(REJECTS, day, parts, inputs=inputs, now=NOW, carried_from=f"before {inputs}")


def numbers(warehouse: Warehouse, day: date = DAY) -> list[int]:
    keys = [key for one, key in warehouse.part_keys(REJECTS) if one == day]
    return sorted(number for part in warehouse.rows(REJECTS, keys, ["line_number"]) for number in part.column(0).to_pylist())


def keep_up(warehouse: Warehouse, *, dry_run: bool = False, retain_days: int | None = None) -> dict[str, Upkeep]:
    return {one.name: one for one in maintain(warehouse, None, retain_days=retain_days, dry_run=dry_run, now=NOW)}


def files_of(warehouse: Warehouse) -> set[Path]:
    return set(Path(warehouse.url).rglob("*.parquet"))


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (LONG_AGO, LONG_AGO))


def age_commits(warehouse: Warehouse, table: str = "rejects") -> None:
    age(*Path(warehouse.url, table, "_delta_log").iterdir())


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(str(tmp_path))


@pytest.fixture
def bucket(s3: Callable[[], str]) -> Warehouse:
    return Warehouse.open(f"s3://{s3()}/tables")


@pytest.mark.parametrize("where", ["warehouse", "bucket"])
@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_small_files_are_merged_and_rows_stay(where: str, table_format: str, request: pytest.FixtureRequest):
    warehouse = replace(request.getfixturevalue(where), table_format=table_format, run_id="a run")
    fill(warehouse, DAY)
    fill(warehouse, DAY + DAYS, files=1)
    before = numbers(warehouse)
    assert len(before) == 40
    (merged,) = keep_up(warehouse)["rejects"].merged
    assert (merged.day, merged.files) == (DAY, 4)
    assert numbers(warehouse) == before
    assert [day for day, _ in warehouse.part_keys(REJECTS)] == [DAY, DAY + DAYS]
    assert keep_up(warehouse)["rejects"].merged == []
    # delta-rs reads a history without letting go of Python, and so of the S3 API in this process.
    if (table_format, where) == ("delta", "warehouse"):
        assert warehouse.origin(REJECTS, DAY) == delta.Origin("first", "before first")


def test_a_merge_is_no_change_to_readers(warehouse: Warehouse):
    fill(warehouse, DAY)
    keep_up(replace(warehouse, run_id="a run"))
    table = DeltaTable(Path(warehouse.url, "rejects"))
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert [(one["num_records"], one["min.reason"], one["max.reason"]) for one in actions] == [(40, "bad_number", "bad_number")]
    newest = max(Path(warehouse.url, "rejects", "_delta_log").glob("*.json")).read_text()
    assert newest.count('"dataChange":false') == 5
    assert '"dataChange":true' not in newest
    assert table.history(1)[0]["flowlog.run_id"] == "a run"
    assert len(DeltaTable(Path(warehouse.url, "rejects"), version=0).file_uris()) == 4


def test_a_run_that_commits_meanwhile_wins(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    fill(warehouse, DAY)
    written = compaction._written_anew
    raced = []

    def slow(*arguments: object) -> object:
        made = written(*arguments)
        if not raced:
            raced.append(made)
            fill(warehouse, DAY, files=2, inputs="second")
        return made

    monkeypatch.setattr(compaction, "_written_anew", slow)
    (merged,) = keep_up(warehouse)["rejects"].merged
    assert merged.files == 2
    assert len(numbers(warehouse)) == 20
    assert warehouse.origin(REJECTS, DAY).inputs == "second"
    assert not Path(warehouse.url, raced[0][0].key).exists()


def test_rows_of_other_releases(warehouse: Warehouse):
    """A column that an older release lacks is NULL; one that a newer release has added is not thrown away."""
    older = conformed(pa.table({"line": ["x"]}), REJECTS.schema)
    assert older.schema == REJECTS.schema
    assert older.to_pylist() == [{"object_key": None, "line_number": None, "line": "x", "reason": None}]
    newer = replace(REJECTS, schema=REJECTS.schema.append(pa.field("colour", pa.string())))
    for number in range(2):
        rows = rejects(number, 1).append_column("colour", pa.array(["red"]))
        warehouse.append(newer, DAY, rows, now=NOW)
    assert keep_up(warehouse)["rejects"].merged == []
    assert len(files_of(warehouse)) == 2


def test_sign_offs_are_never_written_anew(warehouse: Warehouse):
    for reviewer in ("A", "B"):
        rows = [dict.fromkeys(SIGNOFFS.names) | {"reviewer": reviewer, "dispositions": []}]
        warehouse.append(SIGNOFFS_TABLE, DAY, pa.Table.from_pylist(rows, SIGNOFFS), now=NOW)
    before = files_of(warehouse)
    assert keep_up(warehouse)["signoffs"].merged == []
    assert files_of(warehouse) == before


def test_former_states_are_kept_for_366_days(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    fill(warehouse, DAY, files=1)
    fill(warehouse, DAY, files=1, inputs="second")
    before = files_of(warehouse)
    assert keep_up(warehouse)["rejects"].removed == []
    assert files_of(warehouse) == before
    # The state that the second run replaced is still there to be read.
    assert len(DeltaTable(Path(warehouse.url, "rejects"), version=0).file_uris()) == 1
    log = Path(warehouse.url, "rejects", "_delta_log", f"{1:020}.json")
    moment = int((NOW - 367 * DAYS).timestamp() * 1000)
    removed = [line for line in log.read_text().splitlines() if '"remove"' in line]
    assert len(removed) == 1
    old = removed[0].split('"deletionTimestamp":')[1].split(",")[0]
    log.write_text(log.read_text().replace(f'"deletionTimestamp":{old}', f'"deletionTimestamp":{moment}'))
    (told,) = keep_up(warehouse, dry_run=True)["rejects"].removed
    assert (told.why, told.size_bytes > 0) == ("former state", True)
    assert files_of(warehouse) == before
    assert keep_up(warehouse)["rejects"].removed == [told]
    assert files_of(warehouse) == before - {Path(warehouse.url, told.key)}
    assert len(numbers(warehouse)) == 10


def test_a_shorter_retention_is_refused(warehouse: Warehouse, capsys: pytest.CaptureFixture[str]):
    fill(warehouse, DAY)
    with pytest.raises(UsageError, match="--retain-days 365: former states are kept for 366 days or longer"):
        keep_up(warehouse, retain_days=365)
    assert run_maintenance("test", ["--warehouse", warehouse.url, "--retain-days", "30"]) == 1
    assert capsys.readouterr().err.startswith("flowlog: --retain-days 30: former states are kept for 366 days")


def test_a_longer_retention_of_a_table_stays(warehouse: Warehouse):
    fill(warehouse, DAY)
    table = DeltaTable(Path(warehouse.url, "rejects"))
    table.alter.set_table_properties({delta.FILES_RETENTION: "interval 200 weeks", delta.LOG_RETENTION: "interval 1 day"})
    keep_up(warehouse)
    fill(warehouse, DAY)
    found = DeltaTable(Path(warehouse.url, "rejects")).metadata().configuration
    assert (found[delta.FILES_RETENTION], found[delta.LOG_RETENTION]) == ("interval 200 weeks", "interval 366 days")


def test_a_longer_retention_that_is_asked_for_is_the_tables_from_then_on(warehouse: Warehouse):
    for inputs in ("first", "second", "third"):
        fill(warehouse, DAY, files=1, inputs=inputs)
    before = files_of(warehouse)
    age(*before)
    age_commits(warehouse)
    moment = int((NOW - 400 * DAYS).timestamp() * 1000)
    for log in Path(warehouse.url, "rejects", "_delta_log").glob("*.json"):
        log.write_text(re.sub(r'"deletionTimestamp":\d+', f'"deletionTimestamp":{moment}', log.read_text()))
        age(log)
    assert len(keep_up(warehouse, dry_run=True)["rejects"].removed) == 2
    for retain_days in (1_000, None, 1_000, 366):
        done = keep_up(warehouse, retain_days=retain_days)["rejects"]
        DeltaTable(Path(warehouse.url, "rejects")).create_checkpoint()
        assert (done.removed, done.commits_cleaned) == ([], 0)
    assert {path for path in files_of(warehouse) if "_delta_log" not in path.parts} == before
    assert len(DeltaTable(Path(warehouse.url, "rejects"), version=0).file_uris()) == 1


@pytest.mark.parametrize("where", ["warehouse", "bucket"])
@pytest.mark.parametrize("stands", ["delta", "parquet"])
def test_a_warehouse_of_the_other_format_is_left_alone(stands: str, where: str, request: pytest.FixtureRequest):
    warehouse = replace(request.getfixturevalue(where), table_format=stands)
    other = replace(warehouse, table_format={"delta": "parquet", "parquet": "delta"}[stands])
    signed = pa.Table.from_pylist([{"digest": "d", "reviewer": "r", "signed_at": NOW, "decision": "accepted"}], SIGNOFFS)
    warehouse.append(SIGNOFFS_TABLE, DAY, signed, now=NOW)
    fill(warehouse, DAY)
    if where == "warehouse":
        age(*files_of(warehouse))
    before = [(one.key, one.etag) for one in warehouse.storage.objects(warehouse.prefix)]
    for work in (
        lambda: keep_up(other),
        lambda: list(other.part_keys(REJECTS)),
        lambda: other.has_day(REJECTS, DAY),
        lambda: other.append(SIGNOFFS_TABLE, DAY, signed, now=NOW),
        lambda: other.replace_day(REJECTS, DAY, [], inputs="", now=NOW),
    ):
        with pytest.raises(UsageError, match=f"its format is {stands}, not {other.table_format}; give --table-format {stands}$"):
            work()
    assert [(one.key, one.etag) for one in warehouse.storage.objects(warehouse.prefix)] == before
    assert len(numbers(warehouse)) == 40
    assert keep_up(warehouse)["rejects"].removed == []


def test_a_table_whose_log_is_lost_is_not_touched(warehouse: Warehouse):
    fill(warehouse, DAY)
    log = Path(warehouse.url, "rejects", "_delta_log").rename(Path(warehouse.url, "lost"))
    before = files_of(warehouse)
    age(*before)
    done = keep_up(warehouse)["rejects"]
    assert list(done.lines()) == [
        "warning    rejects: no commit of a Delta table is there, so nothing was touched; if its log was lost, bring it back"
    ]
    assert files_of(warehouse) == before
    log.rename(Path(warehouse.url, "rejects", "_delta_log"))
    assert len(numbers(warehouse)) == 40


def test_sign_offs_are_never_orphans(warehouse: Warehouse):
    signed = pa.Table.from_pylist([{"digest": "d", "reviewer": "r", "signed_at": NOW, "decision": "accepted"}], SIGNOFFS)
    warehouse.append(SIGNOFFS_TABLE, DAY, signed, now=NOW)
    [unnamed] = warehouse.write_rows(SIGNOFFS_TABLE, DAY, signed)
    age(*files_of(warehouse))
    assert keep_up(warehouse)["signoffs"].removed == []
    assert Path(warehouse.url, unnamed.key).exists()


@pytest.mark.parametrize("url", ["{}/nosuch", "{}", "{}/a-file"])
def test_a_place_without_tables_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str):
    (tmp_path / "a-file").write_text("")
    place = url.format(tmp_path)
    assert run_maintenance("test", ["--warehouse", place]) == 1
    assert capsys.readouterr().err == f"flowlog: {place}: no table of flowlog is there; is the path right?\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ("--retain-days", "99999999999"),
            "--retain-days 99999999999: former states are kept for 366 days or longer, as evidence",
        ),
        (("--day", "9999-12-31"), "argument --day: 9999-12-31 is no day of flow logs; give one from 1971-01-01 to 2999-12-31"),
        (("--from", "1971-01-01", "--to", "2999-12-31"), "--from 1971-01-01 --to 2999-12-31: are more than 3,660 days"),
    ],
)
def test_slips_of_the_pen(warehouse: Warehouse, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str):
    fill(warehouse, DAY)
    assert run_maintenance("test", ["--warehouse", warehouse.url, *words]) == 1
    assert capsys.readouterr().err.startswith(f"flowlog: {said}")


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_orphans_go_when_no_run_can_want_them_any_more(tmp_path: Path, table_format: str):
    warehouse = Warehouse.open(str(tmp_path), table_format)
    fill(warehouse, DAY, files=1)
    orphans = [Path(tmp_path, part.key) for _ in range(2) for part in warehouse.write_rows(REJECTS, DAY, rejects(0, 3))]
    unfinished = tmp_path / ".scratch" / "part-1.parquet"
    verifying = tmp_path / "_verify-1" / "rejects" / "part-1.parquet"
    report = tmp_path / "reports" / f"day={DAY}" / "report.json"
    for path in (unfinished, verifying, report):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    age(orphans[0], unfinished, verifying, report, *(tmp_path / key for _, key in warehouse.part_keys(REJECTS)))
    done = keep_up(warehouse)
    assert [(tmp_path / one.key, one.why) for one in done["rejects"].removed] == [(orphans[0], "orphan")]
    assert {tmp_path / one.key for one in done[""].removed} == {unfinished, verifying}
    assert [path.exists() for path in (orphans[0], orphans[1], unfinished, verifying, report)] == [False, True, False, False, True]
    assert len(numbers(warehouse)) == 10


def test_files_of_former_states_are_no_orphans(warehouse: Warehouse):
    for inputs in ("first", "second"):
        fill(warehouse, DAY, files=1, inputs=inputs)
    DeltaTable(Path(warehouse.url, "rejects")).create_checkpoint()
    before = files_of(warehouse)
    age(*(path for path in before if "_delta_log" not in path.parts))
    assert keep_up(warehouse)["rejects"].removed == []
    assert files_of(warehouse) == before


def test_a_day_that_a_killed_run_took_away_is_named_and_kept(tmp_path: Path):
    warehouse = Warehouse.open(str(tmp_path), "parquet")
    fill(warehouse, DAY, files=1)
    former = (tmp_path / "rejects" / f"day={DAY}").rename(tmp_path / "rejects" / f"_former-day={DAY}")
    age(*former.iterdir())
    done = keep_up(warehouse)["rejects"]
    assert (done.interrupted, done.removed) == ([str(DAY)], [])
    assert f"warning    rejects: {DAY} was being replaced when its run was killed; run that day again" in list(done.lines())
    fill(warehouse, DAY, files=1)
    fill(warehouse, DAY, files=1)
    assert keep_up(warehouse)["rejects"].interrupted == []


def test_a_day_keeps_its_origin_when_its_commit_is_cleaned_away(warehouse: Warehouse):
    for number in range(3):
        fill(warehouse, DAY + number * DAYS, files=1, inputs=f"inputs {number}")
    # A day without a row has nothing but its origin.
    warehouse.replace_day(OBJECTS, DAY, [], inputs="nothing", now=NOW)
    for table in ("rejects", "objects"):
        DeltaTable(Path(warehouse.url, table)).create_checkpoint()
        age_commits(warehouse, table)
    fill(warehouse, DAY + 3 * DAYS, files=1, inputs="inputs 3")
    version = DeltaTable(Path(warehouse.url, "rejects")).version()
    done = keep_up(warehouse)
    # All but the state from which those within the retention are worked out.
    assert done["rejects"].commits_cleaned == 2
    keep_up(warehouse)
    for number in range(4):
        inputs = f"inputs {number}"
        assert warehouse.origin(REJECTS, DAY + number * DAYS) == delta.Origin(inputs, f"before {inputs}")
    assert warehouse.origin(OBJECTS, DAY) == delta.Origin("nothing", None)
    assert warehouse.has_day(OBJECTS, DAY)
    assert len(DeltaTable(Path(warehouse.url, "rejects"), version=version).file_uris()) == 4
    # What was repeated is a commit like any other: it expires too, and is repeated again.
    DeltaTable(Path(warehouse.url, "rejects")).create_checkpoint()
    age_commits(warehouse)
    fill(warehouse, DAY + 4 * DAYS, files=1, inputs="inputs 4")
    assert keep_up(warehouse)["rejects"].commits_cleaned > 0
    assert warehouse.origin(REJECTS, DAY) == delta.Origin("inputs 0", "before inputs 0")


def test_a_run_does_not_clean_the_log(warehouse: Warehouse):
    fill(warehouse, DAY, files=1)
    DeltaTable(Path(warehouse.url, "rejects")).create_checkpoint()
    age_commits(warehouse)
    for number in range(3):
        fill(warehouse, DAY + number * DAYS, files=1)
    assert len(list(Path(warehouse.url, "rejects", "_delta_log").glob("*.json"))) == 4


def test_checkpoints_are_written_when_the_log_is_long(warehouse: Warehouse):
    fill(warehouse, DAY, files=1)
    assert not keep_up(warehouse)["rejects"].checkpoint
    for _ in range(delta_log.CHECKPOINT_COMMITS):
        fill(warehouse, DAY, files=1)
    assert keep_up(warehouse)["rejects"].checkpoint
    assert not keep_up(warehouse)["rejects"].checkpoint
    assert len(list(Path(warehouse.url, "rejects", "_delta_log").glob("*.checkpoint.parquet"))) == 1


def test_a_dry_run_changes_nothing(warehouse: Warehouse, capsys: pytest.CaptureFixture[str]):
    fill(warehouse, DAY)
    (orphan,) = (Path(warehouse.url, part.key) for part in warehouse.write_rows(REJECTS, DAY, rejects(0, 3)))
    age(orphan)
    before = {path: path.stat().st_mtime_ns for path in Path(warehouse.url).rglob("*")}
    assert run_maintenance("test", ["--warehouse", warehouse.url, "--dry-run", "--day", str(DAY), "--source", "nowhere"]) == 0
    told = capsys.readouterr().out
    assert "rejects: 4 small files of 1 days" in told
    assert f"  rejects/day={DAY}/{orphan.name}  {orphan.stat().st_size:,} bytes  orphan\n" in told
    assert {path: path.stat().st_mtime_ns for path in Path(warehouse.url).rglob("*")} == before


def test_only_the_days_asked_for_are_merged(warehouse: Warehouse):
    for number in range(3):
        fill(warehouse, DAY + number * DAYS, files=2)
    assert run_maintenance("test", ["--warehouse", warehouse.url, "--day", str(DAY + DAYS)]) == 0
    assert [day for day, _ in warehouse.part_keys(REJECTS)].count(DAY + DAYS) == 1
    assert [day for day, _ in warehouse.part_keys(REJECTS)].count(DAY) == 2


def test_the_command_tells_it_as_json(warehouse: Warehouse, capsys: pytest.CaptureFixture[str]):
    fill(warehouse, DAY)
    assert main(["maintain", "--warehouse", warehouse.url, "--json"]) == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(told) == {"rejects", ""}
    assert [(one["day"], one["files"]) for one in told["rejects"]["merged"]] == [(str(DAY), 4)]


def test_what_was_done_is_logged_and_measured(warehouse: Warehouse, capsys: pytest.CaptureFixture[str]):
    fill(warehouse, DAY)
    assert run_maintenance("test", ["--warehouse", warehouse.url, "--log-format", "json", "--metrics", "-"]) == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert [line["event"] for line in lines] == ["run_started", "maintained", "summary", "maintained", "run_done"]
    assert lines[1]["counts"]["merged_files"] == 4
    assert re.search(r"^flowlog_merged_files\{.*\} 4\.0$", told.out, re.M)
