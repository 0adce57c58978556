"""Golden cases: folders of flow log files with what must come of them, as records and as trees of objects.

A case is a folder `<stage>/<case>/` with

    case.toml       title, proves, rule (of the semantics), day; optional [config] (settings of the reference), [[rows]], [objects."FILE"]
    FLOW-LOG.txt    a flow log file with its header line; FLOW-LOG.2.txt is another object of the same flow log
    inventory.json  optional, in the shape of EC2's answers
    carried.json    optional, yesterday's evidence
    expect.json     what must come out: only the columns that the case is about
    day2/ …         optional: files and expect.json of the following days, which get the evidence carried from the day before

Words of a line that begin with `@` are times of the case's day: `@10:00:00`, `@24:03` (the next day's 00:03), `@-00:10` (the day before).
`[[rows]]` adds lines to a file: `file`, `line` with {start}, {end}, {n}, {high}, {low} (n // 250, n % 250 + 1), `from`, `until`, `every`,
`length`, all in seconds of the day. `[objects."FILE"]` may say `published` (a time of the day, as above) and `account`, `region`.

`expect.json`: for each table a list (exactly these rows, in any order) or {"count": N, "rows": [some of them]}; `records` is a list in the
order of the files' lines, or {"counts": {column: {value: N}}}; `reconciliation` is {scope: {measure: {bucket: value}}} with all that is not
zero; `carried` as its two lists. A value {"below": x} or {"at_least": x} is a bound. Times are written as above.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from flowlog_udfs.fields import BY_NAME

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GOLDEN = Path(__file__).parent
STAGES = ("endpoints", "observations", "connections", "nat", "subnets")
ACCOUNT, REGION = "123456789012", "us-east-1"


def cases(*stages: str) -> list[Case]:
    """All cases of the given stages (default: of every stage), in order."""
    return [Case(path.parent) for stage in stages or STAGES for path in sorted((GOLDEN / stage).glob("*/case.toml"))]


def seconds(text: str) -> int:
    """Seconds from midnight of a time like 10:00, 10:00:30, 24:03 or -00:10."""
    hours, minutes, *rest = map(int, text.lstrip("-").split(":"))
    value = hours * 3600 + minutes * 60 + sum(rest)
    return -value if text.startswith("-") else value


@dataclass(frozen=True)
class File:
    """One object: its lines without the header, its format, and its key."""

    name: str
    format: tuple[str, ...]
    lines: tuple[str, ...]
    key: str

    @property
    def flow_log_id(self) -> str:
        return self.name.split(".")[0]

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of the lines, as table `records` has them, without the columns that have no value."""
        for line in self.lines:
            record: dict[str, Any] = {"flow_log_id": self.flow_log_id, "object_key": self.key}
            for name, text in zip(self.format, line.split(), strict=True):
                if text != "-":
                    record[BY_NAME[name].column] = text if BY_NAME[name].type == "STRING" else int(text)
            yield record


@dataclass(frozen=True)
class CaseDay:
    """One day of a case."""

    path: Path
    day: date
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def midnight(self) -> int:
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=timezone.utc).timestamp())

    @cached_property
    def files(self) -> list[File]:
        """The objects of this day in order of name, generated lines after written ones."""
        found = []
        for path in sorted(self.path.glob("*.txt")):
            header, *lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
            lines += self._generated(path.name)
            lines = [" ".join(self._word(word) for word in line.split(" ")) for line in lines]
            fields = tuple(header.split())
            found.append(File(path.name, fields, tuple(lines), self._key(path.name, fields, lines)))
        return found

    def _generated(self, name: str) -> Iterator[str]:
        for spec in self.settings.get("rows", []):
            if spec["file"] == name:
                for n, start in enumerate(range(spec["from"], spec["until"], spec["every"])):
                    begin = self.midnight + start
                    values = {"start": begin, "end": begin + spec.get("length", 59), "n": n, "high": n // 250, "low": n % 250 + 1}
                    yield spec["line"].format(**values)

    def _word(self, word: str) -> str:
        return str(self.midnight + seconds(word[1:])) if word.startswith("@") else word

    def _key(self, name: str, fields: Sequence[str], lines: Sequence[str]) -> str:
        says = self.settings.get("objects", {}).get(name, {})
        if "published" in says:
            published = self.midnight + seconds(says["published"])
        else:
            ends = [line.split()[fields.index("end")] for line in lines] if "end" in fields else []
            latest = max((int(end) for end in ends if end != "-"), default=self.midnight)
            published = (latest // 300 + 1) * 300
        account, region = says.get("account", ACCOUNT), says.get("region", REGION)
        stamp = datetime.fromtimestamp(published, timezone.utc)
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        folder = f"AWSLogs/{account}/vpcflowlogs/{region}/{stamp:%Y/%m/%d}/"
        return f"{folder}{account}_vpcflowlogs_{region}_{name.split('.')[0]}_{stamp:%Y%m%dT%H%MZ}_{mark}.log.gz"

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of all files, in order of files and lines."""
        return [record for file in self.files for record in file.records()]

    @property
    def formats(self) -> dict[str, tuple[str, ...]]:
        """The format of each flow log."""
        return {file.flow_log_id: file.format for file in self.files}

    @property
    def inventory(self) -> Any:
        """The inventory's JSON, or None."""
        for folder in (self.path, self.path.parent):
            if (folder / "inventory.json").exists():
                return json.loads((folder / "inventory.json").read_text(encoding="utf-8"))
        return None

    @property
    def carried(self) -> Any:
        """Yesterday's evidence as written in the case, or None."""
        path = self.path / "carried.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def expect(self) -> Any:
        """What must come out."""
        return self._timed(json.loads((self.path / "expect.json").read_text(encoding="utf-8")))

    def _timed(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._timed(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._timed(item) for item in value]
        return int(self._word(value)) if isinstance(value, str) and value.startswith("@") and value[1:2].isdigit() else value

    def write_objects(self, root: Path) -> list[str]:
        """Write the day's files as gzip objects below `root`, keys as AWS writes them; returns the keys."""
        for file in self.files:
            target = root / file.key
            target.parent.mkdir(parents=True, exist_ok=True)
            content = "\n".join((" ".join(file.format), *file.lines)) + "\n"
            target.write_bytes(gzip.compress(content.encode(), mtime=0))
        return [file.key for file in self.files]


@dataclass(frozen=True)
class Case:
    """A golden case; `str` is its name."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        return tomllib.loads((self.path / "case.toml").read_text(encoding="utf-8"))

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the reference that this case changes."""
        return self.settings.get("config", {})

    @property
    def days(self) -> list[CaseDay]:
        """The days of the case in order."""
        first = self.settings["day"]
        folders = [self.path, *sorted(self.path.glob("day[0-9]"))]
        return [CaseDay(path, first + timedelta(days=n), self.settings if n == 0 else {}) for n, path in enumerate(folders)]


def mismatches(expect: Mapping[str, Any], tables: Mapping[str, Any]) -> list[str]:
    """What in `tables` (rows as dicts by table) is not as expected, one line each; tables that are not given are not judged."""
    found: list[str] = []
    for name, wanted in expect.items():
        if name not in tables:
            continue
        rows = tables[name]
        if name == "reconciliation":
            found += _account_mismatches(wanted, rows)
        elif name == "carried":
            for part, listed in wanted.items():
                found += _row_mismatches(f"carried.{part}", listed, rows[part])
        elif name == "records" and isinstance(wanted, list):
            found += [f"records: {len(rows)} instead of {len(wanted)}"] * (len(rows) != len(wanted))
            for place, (want, row) in enumerate(zip(wanted, rows, strict=False), start=1):
                found += [f"record {place}: {difference}" for difference in _differences(want, row)]
        elif "counts" in wanted:
            for column, counts in wanted["counts"].items():
                actual = dict(Counter(str(row[column]) for row in rows))
                found += [f"{name}.{column}: {actual} instead of {counts}"] * (actual != counts)
        else:
            found += _row_mismatches(name, wanted, rows)
    return found


def _row_mismatches(name: str, wanted: Any, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    listed, count = (wanted, len(wanted)) if isinstance(wanted, list) else (wanted.get("rows", []), wanted["count"])
    found = [f"{name}: {len(rows)} rows instead of {count}"] * (len(rows) != count)
    rest = list(rows)
    # The most particular first, so that a row that says little does not take the place of another.
    for want in sorted(listed, key=len, reverse=True):
        best = min(rest, key=lambda row: len(_differences(want, row)), default=None)
        if best is None:
            found.append(f"{name}: no row left for {want}")
            continue
        found += [f"{name} {want}: {difference}" for difference in _differences(want, best)]
        rest = [row for row in rest if row is not best]
    return found


def _differences(want: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    return [f"{name} is {row.get(name)!r}, not {value!r}" for name, value in want.items() if not _fits(value, row.get(name))]


def _fits(wanted: Any, actual: Any) -> bool:
    if isinstance(wanted, dict):
        bounds = {"below": lambda limit: actual < limit, "at_least": lambda limit: actual >= limit}
        return actual is not None and all(bounds[name](limit) for name, limit in wanted.items())
    if isinstance(actual, datetime):
        actual = int(actual.replace(tzinfo=actual.tzinfo or timezone.utc).timestamp())
    if isinstance(actual, tuple):
        actual = list(actual)
    return bool(actual == wanted)


def _account_mismatches(wanted: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for scope, measures in wanted.items():
        for measure, buckets in measures.items():
            actual = {r["bucket"]: r["value"] for r in rows if r["scope"] == scope and r["measure"] == measure and r["value"]}
            found += [f"reconciliation {scope} {measure}: {actual} instead of {buckets}"] * (actual != buckets)
    return found
