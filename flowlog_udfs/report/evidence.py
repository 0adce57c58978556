"""What stands in writing of a day, compared with itself: table `runs`, the reports that it knows, and the latest beside them.

A page is made of its document alone. The digest of a version covers its document but for what grows after a day is done: the ledger, the
sign-offs, and which version went before. A version keeps these as they were known when it was made, so all that it shows of them must be
in tables `runs` and `signoffs` still; that it shows all that was known then cannot be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import flowlog_udfs
from flowlog_udfs.compliance import JUDGEMENT_TABLES
from flowlog_udfs.errors import FlowlogError, one_line
from flowlog_udfs.ledger import RUNS_TABLE, SIGNOFFS_TABLE, days_of
from flowlog_udfs.policy.gaps import LEDGER_DAYS
from flowlog_udfs.report.document import digest_of, plain, to_json
from flowlog_udfs.report.page import render
from flowlog_udfs.report.publishing import FILES, changes, run_row
from flowlog_udfs.report.schema import validate
from flowlog_udfs.storage import content
from flowlog_udfs.tables import Warehouse

Rows = Sequence[Mapping[str, Any]]
Document = Mapping[str, Any]
EQUAL, DIFFERENT, LEFT_OUT = "equal", "different", "left out"
_ENTERED = ("digest", "complete", "outcome", "open")
_SIGNED = ("reviewer", "signed_at", "decision")


class Said(NamedTuple):
    """What is to be said of a thing: that it is equal, different or left out, and how or why."""

    result: str
    name: str
    what: str

    def __str__(self) -> str:
        return one_line(f"{self.result:<10} {self.name}: {self.what}")


@dataclass(frozen=True)
class Evidence:
    """A line for each thing, the names of those that are different, and the newest version's document where `runs` knows it as it is."""

    lines: Sequence[str]
    different: Sequence[str]
    document: Document | None


def evidence(warehouse: Warehouse, day: date) -> Evidence:
    """Compare what stands in writing of a day; nothing is written, and nothing is said of a day of which there is nothing."""
    written = _Written(warehouse, day)
    rows = written.rows
    if not rows:
        traces = ", ".join(written.traces())
        said = [Said(DIFFERENT, RUNS_TABLE.name, f"no row of the day, of which there is something in {traces}")] if traces else []
        return _told(said, None)
    digests = list(dict.fromkeys(row["digest"] for row in rows))
    documents = {digest: _document(written.file(f"{digest}/{FILES[1]}"), digest) for digest in digests}
    said = [*_of_runs(written, documents), *(one for digest in digests for one in _of_version(written, digest, documents))]
    said += _of_latest(written, rows[-1]["digest"])
    if not any(one.result == DIFFERENT for one in said):
        many, them = ("1 version", "it") if len(digests) == 1 else (f"{len(digests)} versions", "them")
        said.insert(0, Said(EQUAL, "reports", f"{many}, as table runs has {them}, and the latest beside {them}"))
    said.append(Said(LEFT_OUT, RUNS_TABLE.name, "columns published_at and config_digest, which stand nowhere else"))
    if written.signoffs.get(str(day)):
        said.append(
            Said(LEFT_OUT, SIGNOFFS_TABLE.name, "decisions of people, which stand nowhere else; what versions show of them was compared")
        )
    return _told(said, documents[rows[-1]["digest"]])


def _told(said: Sequence[Said], document: Document | None) -> Evidence:
    different = dict.fromkeys(one.name for one in said if one.result == DIFFERENT)
    return Evidence([*map(str, said)], [*different], document)


class _Written:
    """What the tables say of a day and of those that its ledger shows, as plain values by day, and the files of its reports."""

    def __init__(self, warehouse: Warehouse, day: date) -> None:
        self.warehouse, self.day, self.folder = warehouse, day, f"{warehouse.prefix}reports/day={day}/"
        runs, signoffs = (days_of(warehouse, table, day - timedelta(days=LEDGER_DAYS), day) for table in (RUNS_TABLE, SIGNOFFS_TABLE))
        self.runs: dict[str, Rows] = plain({str(one): rows for one, rows in runs.items() if rows})
        named = {str(one): [{**row, "dispositions": dict(row["dispositions"])} for row in rows] for one, rows in signoffs.items()}
        self.signoffs: dict[str, Rows] = plain(named)
        self.rows = sorted(self.runs.get(str(day), ()), key=lambda row: row["version"])
        self._files: dict[str, bytes | None] = {}

    def file(self, path: str) -> bytes | None:
        """A file of the day's reports, None where there is none; each is read once."""
        if path not in self._files:
            self._files[path] = content(self.warehouse.storage, self.folder + path)
        return self._files[path]

    def traces(self) -> Iterator[str]:
        """Where something is that only a report's run makes, or a decision on one."""
        if any(True for _ in self.warehouse.storage.objects(self.folder)):
            yield "reports"
        yield from (one.name for one in (RUNS_TABLE, *JUDGEMENT_TABLES[::-1]) if self.warehouse.has_day(one, self.day))
        if self.signoffs.get(str(self.day)):
            yield SIGNOFFS_TABLE.name


def _document(text: bytes | None, digest: str) -> Document | None:
    """The document that a file holds, if it is that of the digest, written as flowlog writes, and keeps to the schema."""
    try:
        found: dict[str, Any] = json.loads(text or b"")
        validate(found)
        is_it = found["digest"] == digest == digest_of(found) and to_json(found).encode() == text
    except (ValueError, RecursionError, FlowlogError):
        return None
    return found if is_it else None


def _of_runs(written: _Written, documents: Mapping[str, Document | None]) -> Iterator[Said]:
    """Whether each row is as its report, the rows follow each other, and none is missing."""
    following = [*(row["digest"] for row in written.rows[1:]), None]
    if [(row["version"], row["superseded_by"]) for row in written.rows] != [*enumerate(following, 1)]:
        yield Said(DIFFERENT, RUNS_TABLE.name, "its versions do not follow each other, each superseded by the next")
    for row in written.rows:
        document = documents[row["digest"]]
        made = _entered(document) if document else {}
        other = sorted(name for name, value in made.items() if row[name] != value)
        if other:
            yield Said(DIFFERENT, RUNS_TABLE.name, f"version {row['digest'][:12]}: {', '.join(other)} not as in its report")
    reported = set(written.warehouse.storage.folders(written.folder))
    signed = {row["digest"] for row in written.signoffs.get(str(written.day), ())}
    for digest in sorted((reported | signed) - documents.keys()):
        what = " and ".join(what for what, where in (("a report", reported), ("a sign-off", signed)) if digest in where)
        yield Said(DIFFERENT, RUNS_TABLE.name, f"has no row of version {digest[:12]}, of which there is {what}")


def _entered(document: Document) -> dict[str, Any]:
    """What `runs` has of a version; of one by another release, which may have counted otherwise, what no counting is in."""
    if _is_ours(document):
        return run_row(document)
    return {"code_version": document["flowlog_version"], "policy_digest": document["inputs"]["policy"]["digest"]}


def _is_ours(document: Document) -> bool:
    return bool(document["flowlog_version"] == flowlog_udfs.__version__)


def _of_version(written: _Written, digest: str, documents: Mapping[str, Document | None]) -> Iterator[Said]:
    """Whether a version's files are there, and its page and all that grows are what its document and the tables give."""
    version, document = f"version {digest[:12]}", documents[digest]
    files = {name: written.file(f"{digest}/{name}") for name in FILES}
    yield from (Said(DIFFERENT, "reports", f"{version}: {name} is missing") for name, text in files.items() if text is None)
    page, text = files.values()
    if document is None:
        if text is not None:
            yield Said(DIFFERENT, "reports", f"{version}: {FILES[1]} is not the document of this digest, or does not keep to its schema")
        return
    if not _is_ours(document):
        made_by = f"release {document['flowlog_version']} made it, this is {flowlog_udfs.__version__}"
        yield Said(LEFT_OUT, "reports", f"page, ledger and sign-offs of {version}: {made_by}")
        return
    if page is not None and page != render(document).encode():
        yield Said(DIFFERENT, "reports", f"{version}: {FILES[0]} is not the page of its {FILES[1]}")
    yield from (Said(result, "reports", f"{version}: {what}") for result, what in _of_growing(written, document, documents))


def _of_growing(written: _Written, document: Document, documents: Mapping[str, Document | None]) -> Iterator[tuple[str, str]]:
    """Whether what a version shows of other versions, days and decisions is in the tables; what came later need not be shown."""
    former, known = document["supersedes"], [*documents]
    if former is not None:
        before = documents.get(former["digest"])
        is_earlier = former["digest"] in known[: known.index(document["digest"])]
        if not is_earlier or (before and former["changes"] != changes(before, document)):
            yield DIFFERENT, "supersedes another version, or by other changes, than table runs and its report say"
    if any(one not in written.signoffs.get(str(written.day), ()) for one in document["signoffs"]):
        yield DIFFERENT, "shows a sign-off that table signoffs does not have"
    older, kept_from = 0, min(written.runs)
    for shown in document["ledger"]:
        entered = _shown(written.runs.get(shown["day"], ()), _ENTERED)
        decided = _shown(written.signoffs.get(shown["day"], ()), ("digest", *_SIGNED))
        if _shown([shown], _ENTERED) <= entered and _shown([shown], ("signed_digest", *_SIGNED)) <= decided:
            continue
        if shown["day"] < kept_from:
            older += 1
        else:
            yield DIFFERENT, f"its ledger says of {shown['day']} what tables runs and signoffs do not"
    if older:
        yield LEFT_OUT, f"days of its ledger before {kept_from}, of which table runs keeps none: {older}"


def _shown(rows: Rows, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """The columns of rows, those apart that say nothing."""
    return {tuple(row[name] for name in columns) for row in rows} - {(None,) * len(columns)}


def _of_latest(written: _Written, digest: str) -> Iterator[Said]:
    """Whether the copies beside the versions are the newest version's."""
    for name in FILES:
        copy, newest = written.file(name), written.file(f"{digest}/{name}")
        if copy is None:
            yield Said(DIFFERENT, "reports", f"{name} is missing beside the versions")
        elif newest is not None and copy != newest:
            yield Said(DIFFERENT, "reports", f"{name} is not that of the newest version, {digest[:12]}")
