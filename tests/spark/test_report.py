"""The last step on Spark: what a sample day holds is found, versions are kept, and a run ends as it should."""

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from golden.loader import GOLDEN, Case
from logtree import LogTree, at, row
from stored import rows

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.errors import DayLimitError, UsageError
from flowlog_udfs.ledger import sign_off
from flowlog_udfs.report.schema import validate
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.tables import Warehouse

DAY = date(2026, 3, 10)
HOLE = DAY - timedelta(days=3)
NOW = datetime(2026, 3, 11, 8, tzinfo=timezone.utc)


def run(spark: Any, logs: Path, tables: Path, *options: object, day: date | None = DAY, policy: bool = True) -> int:
    arguments = ["--source", logs, "--warehouse", tables, *(["--day", day] if day else []), *options]
    arguments += ["--inventory", logs / "inventory.json"] if (logs / "inventory.json").exists() else []
    arguments += ["--policy", logs / "policy.toml"] if policy and (logs / "policy.toml").exists() else []
    return run_steps("test", STEPS, lambda: spark, list(map(str, arguments)), remaining=remaining)


def report_of(tables: Path, day: date = DAY) -> dict[str, Any]:
    return json.loads((tables / "reports" / f"day={day}" / "report.json").read_text())


def files_of(tables: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tables)): path.read_bytes() for path in sorted((tables / "reports").rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(days: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample's last day, which has days before it, in tables that tests may change."""
    own = days.copied(tmp_path_factory.mktemp("report"))
    return own.logs, own.tables


def named(finding: Mapping[str, Any]) -> str:
    return " ".join([finding["subject"], finding["summary"], *(f"{one['initiator']} {one['responder']}" for one in finding["examples"])])


def test_every_planted_case_is_found_and_nothing_that_must_not_be(whole):
    logs, tables = whole
    planted = pq.read_table(logs / "truth" / f"day={DAY}" / "planted.parquet", partitioning=None).to_pylist()
    findings = report_of(tables)["findings"]
    cases = [case for case in planted if case["status"] != "never"]
    # No logs can plant a day that nobody ran; the sample's second day is one.
    assert {case["rule"] for case in cases} == {rule["id"] for rule in report_of(tables)["rules"]} - {"ledger-hole"}
    assert [one["subject"] for one in findings if one["rule"] == "ledger-hole"] == [str(HOLE)]
    for case in cases:
        found = [one for one in findings if (one["rule"], one["status"]) == (case["rule"], case["status"])]
        assert any(all(address in named(one) for address in case["subject_addrs"]) for one in found), case
    for case in planted:
        if case["status"] == "never":
            told = [
                one for one in findings if one["rule"] == case["rule"] and any(address in named(one) for address in case["subject_addrs"])
            ]
            assert told == [], case


def test_the_document_keeps_to_its_schema_and_agrees_with_the_tables(whole):
    _, tables = whole
    document = report_of(tables)
    validate(document)
    assert len(document["findings"]) == len([row for row in rows(tables, "findings") if row["day"] == DAY])
    counted = sum(row["bytes"] for row in rows(tables, "subnet_bytes") if row["day"] == DAY)
    assert sum(one["bytes_in"] + one["bytes_out"] for one in document["subnets"]) == counted
    assert sum(one["connections"] for one in document["quality"]["basis"]) == len(
        [r for r in rows(tables, "connections") if r["day"] == DAY]
    )
    assert document["changes"]["against"] == [str(DAY - timedelta(days=number)) for number in (1, 2, 4)]
    assert [one["digest"] is None for one in document["ledger"][:5]] == [False, False, True, False, True]


def test_what_only_a_nat_logged_is_told_by_subnet(spark, tmp_path):
    (day,) = Case(GOLDEN / "endpoints" / "only-the-nat-is-logged").days
    day.write_objects(tmp_path / "logs")
    assert run(spark, tmp_path / "logs", tmp_path / "tables", day=day.day) == 0
    quality = report_of(tmp_path / "tables", day.day)["quality"]
    account = {one["measure"]: one["buckets"]["transit_only"] for one in quality["reconciliation"] if one["scope"] == "subnet"}
    (told,) = quality["transit_only"]
    assert (told["subnet_id"], told["bytes"], told["records"]) == ("subnet-nat", account["bytes"], account["records"])
    assert account["bytes"] == 10_000


def test_a_second_run_is_byte_identical_and_makes_no_version(spark, whole, capsys):
    logs, tables = whole
    before, runs = files_of(tables), rows(tables, "runs")
    assert run(spark, logs, tables) == 0
    assert files_of(tables) == before
    assert rows(tables, "runs") == runs
    capsys.readouterr()
    # Each report of a backfill was made when the day after it had been read, so nothing is left to be known and all are passed over.
    assert run(spark, logs, tables, "--from", DAY - timedelta(days=2), "--to", DAY - timedelta(days=1), day=None) == 0
    assert "2026-03-08: run before from the same inputs, passed over" in capsys.readouterr().err


def test_another_policy_makes_another_version_and_keeps_the_former(spark, whole, tmp_path):
    logs, tables = whole
    former = report_of(tables)
    kept = files_of(tables)
    mine = tmp_path / "mine.toml"
    mine.write_text("[rules.skipdata]\nenabled = false\n")
    assert run(spark, logs, tables, "--policy", mine, "--fail-on", "critical", policy=False) == 2
    latest = report_of(tables)
    assert latest["supersedes"]["digest"] == former["digest"] != latest["digest"]
    assert {one["what"] for one in latest["supersedes"]["changes"]} >= {"policy", "findings"}
    versions = {name: content for name, content in files_of(tables).items() if former["digest"] in name}
    assert versions == {name: content for name, content in kept.items() if former["digest"] in name}
    of_day = sorted((row for row in rows(tables, "runs") if row["day"] == DAY), key=lambda row: row["version"])
    assert [(row["digest"], row["superseded_by"]) for row in of_day] == [(former["digest"], latest["digest"]), (latest["digest"], None)]


def test_a_backfill_takes_up_what_the_days_need(spark, whole, tmp_path, capsys):
    """The last day's report was made before the day after it was read: that is all that is left to do for it, and it is done once."""
    _, tables = whole
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("11T0005", [row(at("10T23:59:00"))])
    tree.text("12T0005", [row(at("12T00:01:00"))])
    tree.text("12T0205", [row(at("12T02:01:00"))])  # so that the whole head of that day was there to be read
    span = ["--from", DAY + timedelta(days=1), "--to", DAY + timedelta(days=2)]
    assert run(spark, tmp_path / "logs", tables, "--day", DAY + timedelta(days=1), day=None) == 0
    assert report_of(tables, DAY + timedelta(days=1))["verdict"]["provisional"]
    capsys.readouterr()
    assert run(spark, tmp_path / "logs", tables, *span, day=None) == 0
    told = [line.split(" ")[1:3] for line in capsys.readouterr().err.splitlines() if line.endswith("…")]
    first, second = (str(DAY + timedelta(days=number)) for number in (1, 2))
    names = ("ingest_records:", "attribute_initiators:", "map_nat:", "total_subnet_bytes:")
    assert told == [[name, second] for name in names] + [["report_compliance:", day] for day in (first, second)]
    assert report_of(tables, DAY + timedelta(days=1))["verdict"]["provisional"] is None
    assert run(spark, tmp_path / "logs", tables, *span, day=None) == 0
    assert capsys.readouterr().err.count("passed over") == 2


def test_the_ledger_tells_what_nights_after_a_report_have_settled_or_unsettled(spark, tmp_path):
    logs, tables = tmp_path / "logs", tmp_path / "tables"
    tree = LogTree.in_folder(logs)
    for number in (10, 11, 12):
        tree.text(f"{number}T0005", [row(at(f"{number}T00:01:00"))])
    tree.text("11T0305", [row(at("10T23:50:00"), port=40001)])  # later than the run of its day looks
    day, after = DAY, DAY + timedelta(days=1)
    assert run(spark, logs, tables, day=day) == 0
    former, kept = rows(tables, "runs"), files_of(tables)
    assert former[0]["provisional"] == "2026-03-11 was not read yet; its run names rows of this day that were delivered late."
    assert run(spark, logs, tables, day=after) == 0
    told = report_of(tables, after)["ledger"][0]
    late = "1 rows of this day were delivered later than its run looks; run the day again to hold them."
    assert (told["day"], told["provisional"], told["stale"]) == (str(day), late, None)
    # The version itself, its row in the ledger's table too, is evidence of what was known then.
    assert [one for one in rows(tables, "runs") if one["day"] == day] == former
    assert kept.items() <= files_of(tables).items()

    assert run(spark, logs, tables, day=day) == 0
    assert run(spark, logs, tables, day=after + timedelta(days=1)) == 0
    newest = report_of(tables, after + timedelta(days=1))
    stale = "2026-03-10 was worked out anew after this day, which leans on it; run this day again."
    assert [one["stale"] for one in newest["ledger"][:2]] == [stale, None]
    assert newest["ledger"][1]["provisional"] is None
    assert report_of(tables, after)["verdict"]["stale"] is None


def test_an_open_finding_is_as_grave_when_its_day_is_passed_over(spark, whole, capsys):
    logs, tables = whole
    span = ["--from", DAY - timedelta(days=2), "--to", DAY - timedelta(days=1), "--fail-on"]
    assert run(spark, logs, tables, *span, "critical", day=None) == 2
    told = capsys.readouterr().err
    assert told.count("passed over") == 2
    assert told.count("findings of severity critical or graver are open (--fail-on)") == 2


def test_a_day_without_a_run_between_two_with_one_is_a_hole(spark, whole, tmp_path):
    _, tables = whole
    day = max(row["day"] for row in rows(tables, "runs")) + timedelta(days=2)
    LogTree.in_folder(tmp_path / "logs").text(f"{day:%d}T0005", [row(at(f"{day:%d}T00:01:00"))])
    assert run(spark, tmp_path / "logs", tables, day=day) == 0
    holes = [one for one in report_of(tables, day)["findings"] if one["rule"] == "ledger-hole"]
    assert [(one["subject"], one["status"]) for one in holes] == [(str(one), "open") for one in (HOLE, day - timedelta(days=1))]


@pytest.mark.slow
def test_a_clean_day_is_clean_once_the_next_one_was_read(spark, tmp_path):
    logs, tables = tmp_path / "logs", tmp_path / "tables"
    sizes = {"days": 2, "connections": 1_500, "history": 4, "history_connections": 700, "objects": 200}
    make_sample(SampleRequest(str(logs), DAY, idle_rows=True, profile="clean", seed=3, **sizes))
    assert run(spark, logs, tables, "--from", DAY - timedelta(days=4), "--to", DAY + timedelta(days=1), day=None) == 0
    for number in range(-4, 2):
        assert report_of(tables, DAY + timedelta(days=number))["findings"] == []
    verdict = report_of(tables, DAY + timedelta(days=1))["verdict"]
    assert (verdict["outcome"], bool(verdict["provisional"])) == ("no_finding", True)  # while its late records may still come
    verdict = report_of(tables)["verdict"]
    assert (verdict["outcome"], verdict["caveats"], verdict["provisional"]) == ("clean", [], None)
    assert set(verdict["rules"]) - {"pass"} == {name for name, count in verdict["rules"].items() if not count}


def test_sign_offs_are_only_ever_added(whole):
    _, tables = whole
    warehouse, day = Warehouse.open(str(tables)), DAY - timedelta(days=1)
    digest, known = report_of(tables, day)["digest"], report_of(tables, day)["findings"][0]["finding_id"]
    sign_off(warehouse, day, reviewer="A. Auditor", decision="rejected", now=NOW, comment="look again")
    row = sign_off(
        warehouse, day, reviewer="A. Auditor", decision="accepted", now=NOW, digest=digest[:8], dispositions={known: "known"}, ticket="T-1"
    )
    assert row["digest"] == digest
    found = [one for one in rows(tables, "signoffs") if one["day"] == day]
    assert sorted(one["decision"] for one in found) == ["accepted", "rejected"]
    with pytest.raises(UsageError, match=r"disposition 'f': version .* has no such finding"):
        sign_off(warehouse, day, reviewer="A", decision="accepted", now=NOW, dispositions={"f": "known"})
    with pytest.raises(UsageError, match="fits 0 versions"):
        sign_off(warehouse, day, reviewer="A", decision="accepted", now=NOW, digest="zz")
    with pytest.raises(UsageError, match="decision 'fine': must be one of accepted, rejected"):
        sign_off(warehouse, day, reviewer="A", decision="fine", now=NOW)
    with pytest.raises(UsageError, match="needs a reviewer"):
        sign_off(warehouse, day, reviewer=" ", decision="accepted", now=NOW)
    with pytest.raises(DayLimitError, match="no report to sign off"):
        sign_off(warehouse, date(2020, 1, 1), reviewer="A", decision="accepted", now=NOW)


def test_a_bad_policy_is_status_1_before_spark_starts(tmp_path, capsys):
    (tmp_path / "policy.toml").write_text('[[segment]]\nname = "a"\ncidrs = ["10.0.0.0/33"]\n')

    def session() -> Any:
        raise AssertionError("Spark was started")

    arguments = ["--source", "logs", "--warehouse", "tables", "--day", str(DAY), "--policy", str(tmp_path / "policy.toml")]
    assert run_steps("test", STEPS, session, arguments) == 1
    assert "policy.toml: [[segment]] 1 cidrs = '10.0.0.0/33'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--from", "2026-03-09"], "give --day, or --from and --to"),
        (["--day", "2026-03-10", "--to", "2026-03-11"], "give --day, or --from and --to"),
        (["--from", "2026-03-10", "--to", "2026-03-09"], "--to 2026-03-09 is before --from 2026-03-10"),
        (["--day", "2026-03-10", "--notify-topic", "topic"], "--notify-topic 'topic': must be the ARN of an SNS topic"),
        (["--day", "2026-03-10", "--notify", "'"], '--notify "\'": No closing quotation'),
    ],
)
def test_wrong_use(spark, tmp_path, capsys, options: list[str], message: str):
    assert run(spark, tmp_path, tmp_path / "tables", *options, day=None) == 1
    assert message in capsys.readouterr().err


def test_a_day_without_earlier_steps_or_objects_is_status_2(spark, tmp_path, capsys):
    LogTree.in_folder(tmp_path / "logs").text("09T0005", [row(at("09T00:01:00"))])
    report = {"report_compliance": STEPS["report_compliance"]}
    arguments = ["--source", str(tmp_path / "logs"), "--warehouse", str(tmp_path / "tables"), "--day", "2026-03-10"]
    assert run_steps("test", report, lambda: spark, arguments) == 2
    assert "table coverage has no such day; run ingest_records first" in capsys.readouterr().err
    assert run(spark, tmp_path / "logs", tmp_path / "tables") == 2


def test_a_parquet_warehouse_gets_a_report_and_a_command_is_told(spark, tmp_path):
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("10T0005", [row(at("10T00:01:00"), port=port) for port in range(1, 30)])
    notify = f"/bin/sh -c 'cat > {tmp_path}/told.json'"
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "--table-format", "parquet", "--notify", notify) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    document = report_of(tmp_path / "tables")
    assert (told["outcome"], told["digest"], told["open"]) == (
        document["verdict"]["outcome"],
        document["digest"],
        document["verdict"]["open"],
    )
    assert "clean" not in document["verdict"]["outcome"]
    sign_off(Warehouse.open(str(tmp_path / "tables"), "parquet"), DAY, reviewer="A", decision="accepted", now=NOW)
    sign_off(Warehouse.open(str(tmp_path / "tables"), "parquet"), DAY, reviewer="B", decision="accepted", now=NOW)
    assert sorted(one["reviewer"] for one in rows(tmp_path / "tables", "signoffs")) == ["A", "B"]
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "--table-format", "parquet", "--notify", "/bin/false") == 3
