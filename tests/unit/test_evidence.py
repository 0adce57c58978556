"""The evidence of a day, whatever of it was altered: published, signed and entered in real tables in a folder, then forged there."""

import json
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from report_documents import clean

from flowlog_udfs.ledger import RUNS, RUNS_TABLE, SIGNOFFS_TABLE, Doubts, days_of, ledger, sign_off, versions
from flowlog_udfs.policy.findings import FINDINGS_TABLE
from flowlog_udfs.report.document import digest_of, plain, to_json
from flowlog_udfs.report.evidence import evidence
from flowlog_udfs.report.page import render
from flowlog_udfs.report.publishing import publish
from flowlog_udfs.tables import Warehouse

DAY, NOW = date(2026, 3, 10), datetime(2026, 3, 11, 8, tzinfo=timezone.utc)
BEFORE = DAY - timedelta(days=1)
Forge = Callable[[Warehouse, Path, str, str], None]


def published(warehouse: Warehouse, day: date, objects: int, release: str | None = None) -> str:
    """A version of the day's report with what the ledger and the sign-offs are by now, as a run makes it; returns its digest."""
    runs, signoffs = (days_of(warehouse, table, day - timedelta(days=90), day) for table in (RUNS_TABLE, SIGNOFFS_TABLE))
    measures = [{"name": name, "unit": "count", "today": 5, "days": [None]} for name in ("connections", "rejected connections")]
    made = clean()
    made |= {"day": day, "changes": made["changes"] | {"measures": measures}, "inputs": made["inputs"] | {"objects": objects}}
    made |= {"flowlog_version": release} if release else {}
    made["ledger"] = ledger(
        {one: rows for one, rows in runs.items() if one != day}, signoffs, dict.fromkeys(runs, Doubts()), day - timedelta(days=1), 5
    )
    made["signoffs"] = [{**row, "dispositions": dict(row["dispositions"])} for row in signoffs.get(day, [])]
    made = plain(made)
    made["digest"] = digest_of(made)
    publish(warehouse, day, made, "settings", NOW)
    return made["digest"]


@pytest.fixture(scope="module", params=["delta", "parquet"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A day before with a signed version; then the day with two versions, the first of which was rejected."""
    folder = tmp_path_factory.mktemp("evidence")
    warehouse = Warehouse.open(str(folder), request.param)
    published(warehouse, BEFORE, 1)
    sign_off(warehouse, BEFORE, reviewer="A. Auditor", decision="accepted", now=NOW)
    published(warehouse, DAY, 1)
    sign_off(warehouse, DAY, reviewer="B. Auditor", decision="rejected", now=NOW, comment="again")
    published(warehouse, DAY, 2)
    return folder, request.param


@pytest.fixture
def warehouse(made: tuple[Path, str], tmp_path: Path) -> Warehouse:
    """A copy to forge."""
    folder, table_format = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return Warehouse.open(str(tmp_path), table_format)


def replaced(warehouse: Warehouse, table: Any, schema: pa.Schema, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = change(days_of(warehouse, table, DAY, DAY)[DAY])
    parts = warehouse.write_rows(table, DAY, pa.Table.from_pylist(rows, schema)) if rows else []
    warehouse.replace_day(table, DAY, parts, inputs="forged", now=NOW)


def in_runs(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Forge:
    return lambda warehouse, *_: replaced(warehouse, RUNS_TABLE, RUNS, change)


def in_file(path: str, change: Callable[[str], str]) -> Forge:
    """Alter a file of the reports; `{0}` and `{1}` in its path are the digests of the versions."""

    def forge(warehouse: Warehouse, folder: Path, *digests: str) -> None:
        file = folder / path.format(*digests)
        file.write_text(change(file.read_text()))

    return forge


def in_document(version: int, change: Callable[[dict[str, Any]], Any], *, latest: bool = False) -> Forge:
    """Alter the document of a version and make its page anew, as who knows flowlog would; `latest`: the copies beside the versions too."""

    def forge(warehouse: Warehouse, folder: Path, *digests: str) -> None:
        document = json.loads((folder / digests[version] / "report.json").read_text())
        change(document)
        for place in [folder / digests[version], *([folder] if latest else [])]:
            (place / "report.json").write_text(to_json(document))
            (place / "report.html").write_text(render(document))

    return forge


def gone(path: str) -> Forge:
    def forge(warehouse: Warehouse, folder: Path, *digests: str) -> None:
        file = folder / path.format(*digests)
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    return forge


def test_what_was_published_signed_and_entered_agrees(warehouse: Warehouse) -> None:
    found = evidence(warehouse, DAY)
    assert found.different == []
    assert found.document is not None and found.document["digest"] == versions(warehouse, DAY)[-1]["digest"]
    assert found.lines == [
        "equal      reports: 2 versions, as table runs has them, and the latest beside them",
        "left out   runs: columns published_at and config_digest, which stand nowhere else",
        "left out   signoffs: decisions of people, which stand nowhere else; what versions show of them was compared",
    ]


def test_a_version_that_came_back_agrees(warehouse: Warehouse) -> None:
    first = versions(warehouse, DAY)[0]["digest"]
    assert published(warehouse, DAY, 1) == first
    assert [row["digest"] == first for row in versions(warehouse, DAY)] == [True, False, True]
    assert evidence(warehouse, DAY).different == []


def test_a_day_of_which_there_is_nothing_has_no_lines(warehouse: Warehouse) -> None:
    found = evidence(warehouse, DAY + timedelta(days=1))
    assert (found.lines, found.different, found.document) == ([], [], None)


def fewer(word: str) -> Callable[[str], str]:
    return lambda text: text.replace(word, "", 1)


@pytest.mark.parametrize(
    "forge, names, told",
    [
        (in_file("{0}/report.html", fewer("seen")), ["reports"], "version {0}: report.html is not the page of its report.json"),
        (in_file("{1}/report.html", fewer("seen")), ["reports"], "version {1}: report.html is not the page of its report.json"),
        (in_file("{0}/report.json", fewer("seen")), ["reports"], "version {0}: report.json is not the document of this digest"),
        (in_file("{0}/report.json", lambda text: "{" + text), ["reports"], "version {0}: report.json is not the document of this digest"),
        (in_file("{0}/report.json", lambda text: " " + text), ["reports"], "version {0}: report.json is not the document of this digest"),
        # Whoever takes the first of two members reads another verdict than who takes the last.
        (
            in_file("{0}/report.json", lambda text: text.replace("{", '{"verdict": 1,', 1)),
            ["reports"],
            "version {0}: report.json is not the document of this digest",
        ),
        (
            in_document(1, lambda one: one["verdict"].update(sentence="All is well"), latest=True),
            ["reports"],
            "version {1}: report.json is not the document of this digest",
        ),
        (in_file("report.html", fewer("seen")), ["reports"], "report.html is not that of the newest version, {1}"),
        (in_file("report.json", fewer("seen")), ["reports"], "report.json is not that of the newest version, {1}"),
        (gone("report.html"), ["reports"], "report.html is missing"),
        (gone("{0}/report.html"), ["reports"], "version {0}: report.html is missing"),
        (gone("{0}"), ["reports"], "version {0}: report.json is missing"),
        # What the digest does not cover, with a page to match.
        (
            in_document(1, lambda one: one["signoffs"][0].update(decision="accepted"), latest=True),
            ["reports"],
            "version {1}: shows a sign-off that table signoffs does not have",
        ),
        (
            in_document(1, lambda one: one["ledger"][0].update(outcome="findings"), latest=True),
            ["reports"],
            "version {1}: its ledger says of 2026-03-09 what tables runs and signoffs do not",
        ),
        (
            in_document(0, lambda one: one["ledger"][0].update(reviewer="C. Auditor")),
            ["reports"],
            "version {0}: its ledger says of 2026-03-09 what tables runs and signoffs do not",
        ),
        (in_document(1, lambda one: one["supersedes"]["changes"].clear(), latest=True), ["reports"], "version {1}: supersedes another"),
        (
            in_document(1, lambda one: one["supersedes"].update(digest="0" * 64), latest=True),
            ["reports"],
            "version {1}: supersedes another",
        ),
        (
            in_document(0, lambda one: one["ledger"][0].update(more="x")),
            ["reports"],
            "version {0}: report.json is not the document of this digest",
        ),
        (in_runs(lambda rows: [{**rows[0], "open": 7}, rows[1]]), ["runs"], "version {0}: open not as in its report"),
        (
            in_runs(lambda rows: [rows[0], {**rows[1], "policy_digest": "p", "outcome": "clean?"}]),
            ["runs"],
            "version {1}: outcome, policy_digest not as in its report",
        ),
        (in_runs(lambda rows: rows[:1]), ["runs"], "has no row of version {1}, of which there is a report"),
        (in_runs(lambda rows: rows[1:]), ["runs"], "has no row of version {0}, of which there is a report and a sign-off"),
        (in_runs(lambda rows: [{**row, "superseded_by": None} for row in rows]), ["runs"], "its versions do not follow each other"),
    ],
)
def test_what_was_altered_is_found(warehouse: Warehouse, tmp_path: Path, forge: Any, names: list[str], told: str) -> None:
    digests = [row["digest"] for row in versions(warehouse, DAY)]
    forge(warehouse, tmp_path / "reports" / f"day={DAY}", *digests)
    found = evidence(warehouse, DAY)
    assert set(names) <= set(found.different) <= {"runs", "reports"}
    wanted = told.format(*(one[:12] for one in digests))
    assert any(line.startswith("different  ") and wanted in line for line in found.lines), found.lines
    assert not any(line.startswith("equal") for line in found.lines)


def test_bytes_that_are_no_text_are_a_difference(warehouse: Warehouse, tmp_path: Path) -> None:
    digest = versions(warehouse, DAY)[0]["digest"]
    for name in ("report.html", "report.json"):
        (tmp_path / "reports" / f"day={DAY}" / digest / name).write_bytes(b"\xff\xfe")
    assert evidence(warehouse, DAY).different == ["reports"]


@pytest.mark.parametrize("left", ["reports", "findings", "signoffs"])
def test_a_day_without_its_row_in_runs_is_different(warehouse: Warehouse, tmp_path: Path, left: str) -> None:
    """Whatever of a report is left."""
    if left == "findings":
        parts = warehouse.write_rows(FINDINGS_TABLE, DAY, FINDINGS_TABLE.schema.empty_table())
        warehouse.replace_day(FINDINGS_TABLE, DAY, parts, inputs="i", now=NOW)
    if left != "signoffs":
        shutil.rmtree(tmp_path / "signoffs")
    if left != "reports":
        shutil.rmtree(tmp_path / "reports" / f"day={DAY}")
    shutil.rmtree(tmp_path / "runs")
    found = evidence(warehouse, DAY)
    assert found.different == ["runs"]
    assert found.lines == [f"different  runs: no row of the day, of which there is something in {left}"]


def test_a_row_deleted_from_runs_leaves_its_commit(warehouse: Warehouse, tmp_path: Path) -> None:
    if warehouse.table_format == "parquet":
        pytest.skip("Parquet tables keep no notes")
    shutil.rmtree(tmp_path / "signoffs")
    shutil.rmtree(tmp_path / "reports")
    replaced(warehouse, RUNS_TABLE, RUNS, lambda _: [])
    assert evidence(warehouse, DAY).lines == ["different  runs: no row of the day, of which there is something in runs"]


def test_what_another_release_made_is_left_out(warehouse: Warehouse, tmp_path: Path) -> None:
    """It knew another page: all but that and what the digest does not cover is compared."""
    digest = published(warehouse, DAY, 3, release="0.0.9")
    folder = tmp_path / "reports" / f"day={DAY}"
    for place in (folder, folder / digest):
        (place / "report.html").write_text("<p>of another release")
    found = evidence(warehouse, DAY)
    left_out = f"left out   reports: page, ledger and sign-offs of version {digest[:12]}: release 0.0.9 made it, this is "
    assert found.different == []
    assert [line for line in found.lines if line.startswith(left_out)]
    replaced(warehouse, RUNS_TABLE, RUNS, lambda rows: [*rows[:-1], {**rows[-1], "policy_digest": "p"}])
    (folder / "report.html").write_text("<p>altered")
    assert evidence(warehouse, DAY).different == ["runs", "reports"]


def test_a_ledger_may_tell_of_days_that_are_no_longer_kept(warehouse: Warehouse, tmp_path: Path) -> None:
    for table in (RUNS_TABLE, SIGNOFFS_TABLE):
        warehouse.replace_day(table, BEFORE, [], inputs="retention", now=NOW)
    found = evidence(warehouse, DAY)
    assert found.different == []
    for digest in (row["digest"][:12] for row in versions(warehouse, DAY)):
        assert (
            f"left out   reports: version {digest}: days of its ledger before 2026-03-10, of which table runs keeps none: 1" in found.lines
        )
