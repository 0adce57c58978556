"""A day whose every text is an attack, and keys and numbers to match: it runs whole, and is never more than text to whoever reads it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import boto3
import pytest

from flowlog_udfs import command
from flowlog_udfs.checks import LARGEST_DAY, broken_limit
from flowlog_udfs.cli import run_steps
from flowlog_udfs.config import IngestConfig
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.day import STEPS
from flowlog_udfs.errors import ObjectError, StorageError, UsageError, one_line
from flowlog_udfs.fields import FIELDS, Text
from flowlog_udfs.formats import DEFAULT_FORMAT
from flowlog_udfs.ingest import RECORDS_TABLE
from flowlog_udfs.inspection import inspect_day
from flowlog_udfs.keys import DayScope, list_day, open_source, parse_key
from flowlog_udfs.objects import ObjectRow, ReadPlan, read_object
from flowlog_udfs.ocsf.exporting import export_day
from flowlog_udfs.report.charts import heatmap
from flowlog_udfs.report.schema import validate
from flowlog_udfs.storage import FolderStorage, S3Storage, open_storage
from flowlog_udfs.tables import Warehouse

Tried = Callable[[str, int], None]
DAY = date(2026, 3, 10)
BEGIN = 1_773_100_800
HOSTILE = (
    *("=cmd|'/c_calc'!A0", "+1+1", "-2+3", "@SUM(A1)", '=HYPERLINK("http://x","y")'),
    *(
        "<script>alert(1)</script>",
        "</script><img/src=x/onerror=alert(1)>",
        '"><svg/onload=alert(1)>',
        "--><b>",
        "]]>",
        "javascript:alert(1)",
    ),
    *("\u202egnp.exe", "\u2066\u2028", "\u0085", "\ufeff", "\x7f", "\u009b31mred", "\u200b", "日本", "e\u0301", "\U0001f4a9"),
    *(
        "[red]x[/red]",
        "[link=http://x]x[/]",
        "{{7*7}}",
        "{%x%}",
        "${jndi:ldap://x}",
        "$\\frac{$",
        "%s%n",
        "%0d%0a",
        'id="#010101',
        "url(#x)",
    ),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x",
        "';DROP_TABLE_records;--",
        "`id`",
        "$(id)",
        "a" * 900,
        "null",
        "NaN",
        "None",
        "__proto__",
    ),
)
FOLDER = "we ird#?%2e'\"<b>[red]\u202e\x1b[31m\n日本"
FOLDERS = "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/"
NAME = "123456789012_vpcflowlogs_us-east-1_fl-1_20260310T0005Z_{:08x}.log.gz"


def record(**values: object) -> str:
    told = {"start": BEGIN + 60, "end": BEGIN + 110, "srcaddr": "10.0.1.5", "dstaddr": "203.0.113.5", "srcport": 40_000, "dstport": 443}
    told |= {"protocol": 6, "packets": 10, "bytes": 1_000, "action": "ACCEPT", "log-status": "OK", "version": 5, "type": "IPv4"} | values
    return " ".join(str(told.get(field.name, "-")) for field in FIELDS)


def hostile_records() -> list[str]:
    """For each text a connection out, one in and a refused one, and the text in every field that takes any."""
    rows = []
    for number, text in enumerate(HOSTILE):
        texts = {field.name: text for field in FIELDS if isinstance(field.domain, Text)}
        for source, target, port, flags in (
            ("10.0.1.5", "203.0.113.5", 22, 3),
            ("198.51.100.9", "10.0.1.5", 22, 3),
            ("198.51.100.9", "10.0.1.5", 3389, 2),
        ):
            there = {"srcaddr": source, "dstaddr": target, "srcport": 40_000 + number, "dstport": port, "tcp-flags": flags}
            back = {"srcaddr": target, "dstaddr": source, "srcport": port, "dstport": 40_000 + number, "tcp-flags": 19}
            way = {"flow-direction": "egress" if source == "10.0.1.5" else "ingress"}
            other = {"flow-direction": "ingress" if source == "10.0.1.5" else "egress"}
            rows.append(record(**texts | there | way | {"action": "ACCEPT" if flags == 3 else "REJECT"}))
            rows += [record(**texts | back | other)] if flags == 3 else []
    return rows


LAST = 253_402_300_799_999
"""The last millisecond of the year 9999."""
TIMES = [(BEGIN + 60, LAST), (BEGIN + 60, 0), (BEGIN + 86_399, LAST), (BEGIN, 99_999_999_999), (BEGIN + 50, BEGIN)]
OTHER_DAYS = [(0, BEGIN + 60), (253_402_300_799, 253_402_300_799), (LAST, 1)]
LARGE = 10**18


@dataclass(frozen=True)
class Hostile:
    """The hostile day after one run: its tables, its status, what was printed."""

    source: Path
    tables: Path
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def hostile(spark_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    source, tables = tmp_path_factory.mktemp("hostile") / "logs", tmp_path_factory.mktemp("hostile") / "tables"
    header = " ".join(field.name for field in FIELDS)
    folder = source / FOLDER / FOLDERS
    folder.mkdir(parents=True)
    times = [record(start=start, end=end, srcport=50_000 + at) for at, (start, end) in enumerate(TIMES + OTHER_DAYS)]
    counts = [record(bytes=LARGE, packets=LARGE, srcport=51_000 + at) for at in range(4)]
    for number, rows in enumerate((hostile_records(), times, counts)):
        text = "".join(f"{row}\n" for row in (header, *rows))
        (folder / NAME.format(number)).write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder / NAME.format(9)).write_bytes(b"\x1f\x8b broken")
    for name in ("\x1b[2Jx_vpcflowlogs_us-east-1_fl-1_20260310T0005Z_ab.log.gz", "x\n.log.gz"):
        (folder / name).write_bytes(b"x")
    settings = source / "flowlog.toml"
    settings.write_text("[ingest]\nmax_failed_share = 0.5\n")
    out, err = StringIO(), StringIO()
    arguments = ["--source", str(source), "--warehouse", str(tables), "--day", str(DAY), "--config", str(settings)]
    with redirect_stdout(out), redirect_stderr(err):
        status = run_steps("test", STEPS, lambda: spark_session, arguments)
    return Hostile(source, tables, status, out.getvalue(), err.getvalue())


def lines_that_do_not_print(text: str) -> list[str]:
    return [line for line in text.split("\n") if not line.isprintable()]


def test_the_day_runs_and_prints_lines_that_print(hostile: Hostile, tried: Tried) -> None:
    assert hostile.status == 0, hostile.err
    assert "Traceback" not in hostile.err
    assert lines_that_do_not_print(hostile.out + hostile.err) == []
    [warning] = [line for line in hostile.out.splitlines() if "_00000009.log.gz" in line]
    assert "\\x1b[31m\\n" in warning and "\\u202e" in warning
    assert "3 read, 1 failed, 2 skipped" in hostile.out
    tried("hostile texts through a whole day", len(HOSTILE))


def test_tables_hold_every_text_as_it_was_logged(hostile: Hostile) -> None:
    warehouse = Warehouse.open(str(hostile.tables))
    rows = [
        row
        for part in warehouse.rows(
            RECORDS_TABLE, [key for _, key in warehouse.part_keys(RECORDS_TABLE)], ["vpc_id", "instance_tag", "object_key"]
        )
        for row in part.to_pylist()
    ]
    assert {row["vpc_id"] for row in rows} - {None} == {row["instance_tag"] for row in rows} - {None} == set(HOSTILE)
    assert {row["object_key"].split("/")[0] for row in rows} == {FOLDER.split("/")[0]}


def test_sums_of_huge_counts_and_of_far_times_are_exact(hostile: Hostile) -> None:
    warehouse = Warehouse.open(str(hostile.tables))
    names = ["bytes_sent", "packets_sent", "initiator_port", "first_start", "last_end"]
    rows = [
        row
        for part in warehouse.rows(CONNECTIONS_TABLE, [key for _, key in warehouse.part_keys(CONNECTIONS_TABLE)], names)
        for row in part.to_pylist()
    ]
    huge = [row for row in rows if row["bytes_sent"] == row["packets_sent"] == LARGE]
    assert len(huge) == 4 and not [row for row in rows if row["bytes_sent"] < 0]
    far = {row["initiator_port"] - 50_000: row["last_end"] for row in rows if 50_000 <= row["initiator_port"] < 50_100}
    assert far[0] == datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert far[3].year == 5138
    # An end before its start is taken for the start.
    assert far[1].timestamp() == BEGIN + 60
    total = 4 * LARGE + 1_000 * (len(hostile_records()) + len(TIMES))
    assert f"bytes by connection  {total:,} = " in hostile.out


class Page(HTMLParser):
    """All elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_and_its_json_hold_texts_and_nothing_else(hostile: Hostile) -> None:
    page = Page((hostile.tables / "reports" / f"day={DAY}" / "report.html").read_text(encoding="utf-8"))
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in page.elements if tag == "script"]) <= 2
    assert "<script>alert(1)</script>" in " ".join(page.texts)
    document = json.loads((hostile.tables / "reports" / f"day={DAY}" / "report.json").read_text(encoding="utf-8"))
    validate(document)
    assert set(HOSTILE) <= {one["subnet_id"] for one in document["subnets"]}


def test_the_command_shows_it_without_markup_or_terminal_sequences(hostile: Hostile, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["report", "--warehouse", str(hostile.tables), "--day", str(DAY), "--show"],
        ["inspect", str(hostile.source), "--day", str(DAY)],
        ["inspect", f"{hostile.source}/{FOLDER}", "--day", str(DAY)],
        ["inspect", f"{hostile.source}/{FOLDER}/none", "--day", str(DAY)],
    ):
        command.main(words)
        found = capsys.readouterr()
        assert lines_that_do_not_print(found.out + found.err) == []
        assert command.main([*words, "--json"]) in (0, 1, 2)
        found = capsys.readouterr()
        assert lines_that_do_not_print(found.out + found.err) == []
        assert not found.out or json.loads(found.out)


def test_events_are_lines_of_json(hostile: Hostile, spark: Any, tmp_path: Path) -> None:
    storage = FolderStorage(str(tmp_path))
    count = export_day(spark, Warehouse.open(str(hostile.tables)), DAY, datetime(2026, 3, 11, tzinfo=timezone.utc), (storage, ""))
    events = [json.loads(line) for part in tmp_path.rglob("*.jsonl.gz") for line in gzip.decompress(part.read_bytes()).split(b"\n") if line]
    assert len(events) == count > len(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_chart_takes_any_label(text: str) -> None:
    hours = [1_000] * 24
    drawn = str(heatmap([{"subnet_id": text, "hours_in": hours, "hours_out": hours}]))
    assert text not in drawn or re.fullmatch(r"[\w.:/-]+", text, re.ASCII)
    assert drawn.count("<text") < 20 and "<script" not in drawn


def test_messages_are_one_line_and_print() -> None:
    for text in HOSTILE:
        said = str(StorageError(f"{text}\r\n\x1b]0;title\x07 cannot be read\n"))
        assert said.isprintable()
    assert one_line("fl-1 日本 é") == "fl-1 日本 é"
    assert one_line("\udcff\u202e") == "\\udcff\\u202e"


WRONG_NAMES = [
    *(NAME.format(1).replace("fl-1", text) for text in ("fl-\x1b[31m", "fl-<b>", "fl-日本", "fl- 1", "fl-../1", "fl-", "1", "fl-1\n")),
    *(NAME.format(1).replace("123456789012", text) for text in ("\u202e", "=1", "..", "", "１２３")),
    *(
        NAME.format(1).replace("20260310T0005", text)
        for text in ("20261310T0005", "20260310T2560", "２０２６０３１０T0005", "00000000T0000")
    ),
    *(NAME.format(1) + text for text in ("\n", ".exe", "\x00", "/", "%2e")),
]


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_names_that_aws_never_writes_are_no_flow_logs(name: str, tried: Tried) -> None:
    assert parse_key(FOLDERS + NAME.format(1)) is not None
    assert parse_key(FOLDERS + name) is None
    tried("wrong names of objects", 1)


@pytest.mark.parametrize("above", ["a/../b/", "/abs/", "%2e%2e/", " ", "#?&=+/", "日本/", "\x1b[31m/", "AWSLogs/", "o-1/AWSLogs/x/"])
def test_what_stands_above_awslogs_is_kept_as_it_is(above: str) -> None:
    prefix = above if above.endswith("/") else f"{above}/"
    assert parse_key(f"{prefix}{FOLDERS}{NAME.format(1)}").flow_log_id == "fl-1"


def test_a_name_of_a_file_system_that_is_no_text_is_foreign(tmp_path: Path) -> None:
    folder = tmp_path / FOLDERS
    folder.mkdir(parents=True)
    (folder / NAME.format(1)).write_bytes(gzip.compress(f"{DEFAULT_FORMAT.header()}\n".encode()))
    other = Path(str(tmp_path) + "/te\udcffam/" + FOLDERS)
    other.mkdir(parents=True)
    (other / NAME.format(1)).write_bytes(b"x")
    (folder / NAME.format(2).replace("fl-1", "fl-\udcff")).write_bytes(b"x")
    storage, prefix = open_source(str(tmp_path))
    listing = list_day(storage, DayScope(prefix, DAY, 2))
    assert (len(listing.objects), listing.skipped) == (1, 2)
    assert inspect_day(str(tmp_path), DAY, late_hours=2, now=datetime(2026, 3, 12, tzinfo=timezone.utc)).skipped == 2


def test_a_link_out_of_the_source_is_no_way_to_other_folders(tmp_path: Path) -> None:
    (tmp_path / "secret" / FOLDERS).mkdir(parents=True)
    (tmp_path / "secret" / FOLDERS / NAME.format(1)).write_bytes(b"x")
    (tmp_path / "logs" / FOLDERS).mkdir(parents=True)
    (tmp_path / "logs" / FOLDERS / "12").symlink_to(tmp_path / "secret" / FOLDERS)
    storage, prefix = open_source(str(tmp_path / "logs"))
    assert list_day(storage, DayScope(prefix, DAY, 2)).objects == ()


def test_keys_of_any_signs_and_of_1024_bytes_are_read_from_s3(s3: Callable[[], str], tried: Tried) -> None:
    bucket = s3()
    content = gzip.compress(f"{DEFAULT_FORMAT.header()}\n2 1 eni-1 - - - - - - - {BEGIN + 60} {BEGIN + 119} - NODATA\n".encode())
    rest = FOLDERS + NAME.format(1)
    prefixes = [
        "a b/",
        "a#b?c&d=e+f/",
        "%2e%2e/",
        "日本/é/",
        "'\"<b>/",
        "x" * (1_024 - len(rest) - 1) + "/",
        "é" * ((1_023 - len(rest)) // 2) + "/",
    ]
    for prefix in prefixes:
        boto3.client("s3").put_object(Bucket=bucket, Key=prefix + rest, Body=content)
    for prefix in prefixes:
        storage, below = open_storage(f"s3://{bucket}/{prefix}")
        assert isinstance(storage, S3Storage)
        [listed] = list_day(storage, DayScope(below, DAY, 2)).objects
        assert listed.stored.key == prefix + rest and len(listed.stored.key.encode()) <= 1_024
        row = ObjectRow(
            listed.stored.key,
            listed.stored.etag,
            len(content),
            listed.stored.last_modified,
            "1",
            "us-east-1",
            "fl-1",
            listed.key.published_at,
            "plain",
        )
        assert sum(chunk.rows.num_rows for chunk in read_object(storage, row, ReadPlan(DAY, {}, DEFAULT_FORMAT, 1 << 20))) == 1
    tried("odd keys read from S3", len(prefixes))


def big_object(*counts: int) -> ObjectRow:
    lines = [f"2 1 eni-1 10.0.0.1 10.0.0.2 1 2 6 {count} {count} {BEGIN} {BEGIN} ACCEPT OK" for count in counts]
    content = "".join(f"{line}\n" for line in (DEFAULT_FORMAT.header(), *lines)).encode()
    published = datetime(2026, 3, 10, 0, 5, tzinfo=timezone.utc)
    row = ObjectRow("o.log", "", len(content), published, "1", "us-east-1", "fl-1", published, "plain")
    storage: Any = type("Held", (), {"open": lambda *_: __import__("io").BytesIO(content)})()
    for _ in read_object(storage, row, ReadPlan(DAY, {}, DEFAULT_FORMAT, 1 << 20)):
        pass
    return row


def test_counts_whose_sum_no_column_holds_are_refused_and_never_wrap() -> None:
    assert big_object(2**63 - 1).bytes == 2**63 - 1
    assert big_object(2**62, 2**62 - 1).packets == 2**63 - 1
    for counts in ((2**63 - 1, 1), (2**62, 2**62), (2**63 - 1,) * 5):
        with pytest.raises(ObjectError, match="impossible: its bytes or packets add up to more than 9223372036854775807"):
            big_object(*counts)


def test_a_day_whose_sum_no_column_holds_is_not_published() -> None:
    half = big_object(2**61)
    assert broken_limit([half, half], IngestConfig()) is None
    said = broken_limit([half, half, big_object(1)], IngestConfig())
    assert said and f"bytes add up to more than {LARGEST_DAY}" in said and "o.log" in said


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a*", "a[1]", "{a}", "a\\b", "a\nb", "a\x1b"])
def test_a_warehouse_that_readers_would_look_for_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="a warehouse's path must not have"):
        Warehouse.open(f"/tables/{name}")
