"""A past day worked out again from its objects and compared with what its tables hold; nothing is replaced.

The day goes through the same steps into a scratch folder of the warehouse, which is removed at the end; of other days it sees what the
warehouse holds. It reads the objects that the day's run read: what arrived since is named, and left out. Table `runs`, the reports and what
was signed are compared with each other (`report/evidence.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import flowlog_udfs
from flowlog_udfs.catalog import TABLES
from flowlog_udfs.compliance import JUDGEMENT_TABLES, day_rows
from flowlog_udfs.delta import Origin
from flowlog_udfs.errors import DayLimitError, ReconciliationError, one_line
from flowlog_udfs.fingerprints import Compared, differences, fingerprints
from flowlog_udfs.ingest import OBJECTS, held_elsewhere
from flowlog_udfs.ledger import report_at, versions
from flowlog_udfs.leftovers import VERIFYING
from flowlog_udfs.maintenance import EVIDENCE
from flowlog_udfs.notices import Notices
from flowlog_udfs.ocsf.exporting import export_day
from flowlog_udfs.ocsf.schema import OCSF_TABLE
from flowlog_udfs.report.document import GROWING
from flowlog_udfs.report.evidence import DIFFERENT, EQUAL, LEFT_OUT, Evidence, Said, evidence
from flowlog_udfs.selection import list_source
from flowlog_udfs.tables import Table, Warehouse
from flowlog_udfs.tallies import SUMS, TALLIES_TABLE
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from flowlog_udfs.day_arguments import DayArguments, Step

Told = TypeVar("Told")

HOW = {
    # Where an object lies is not what is in it: of a copy the SHA-256 is the same.
    OBJECTS.name: Compared(without=("etag", "last_modified")),
    # Each task adds up its own records, and another machine cuts the work otherwise.
    TALLIES_TABLE.name: Compared(summed=SUMS),
}
"""How a table is compared, if not by its rows as they are."""
SHOWN_OBJECTS = 5
RELEASE = "flowlog_version"


@dataclass(frozen=True)
class Beside(Warehouse):
    """A scratch warehouse for one day; what the steps ask of other days comes from `standing`, which shares its storage."""

    standing: Warehouse | None = None
    day: date | None = None

    def part_sizes(self, table: Table) -> Iterator[tuple[date, str, int]]:
        """Of the day its own files, of others those of the standing warehouse."""
        yield from (one for one in super().part_sizes(table) if one[0] == self.day)
        if self.standing:
            yield from (one for one in self.standing.part_sizes(table) if one[0] != self.day)

    def pinned(self) -> Warehouse:
        """Itself, for nobody else writes here."""
        return self

    def origins(self, table: Table, days: Iterable[date]) -> dict[date, Origin]:
        """Of the day its own, of others those of the standing warehouse."""
        asked = frozenset(days)
        return self._over(self.standing.origins(table, asked) if self.standing else {}, super().origins(table, asked))

    def highest(self, table: Table, column: str) -> dict[date, Any]:
        """Of the day its own, of others those of the standing warehouse."""
        return self._over(self.standing.highest(table, column) if self.standing else {}, super().highest(table, column))

    def _over(self, others: Mapping[date, Told], own: Mapping[date, Told]) -> dict[date, Told]:
        return {day: told for found, is_own in ((others, False), (own, True)) for day, told in found.items() if (day == self.day) is is_own}


def verify_day(spark: SparkSession, steps: Mapping[str, Step], arguments: DayArguments) -> str:
    """What is equal, in lines for a person.

    Raises `ReconciliationError` where a table or the report is different, its lines printed before, and `DayLimitError` where there is
    nothing to compare with, or the day cannot be worked out any more.
    """
    warehouse, day = arguments.warehouse, arguments.selection.day
    if not warehouse.has_day(OBJECTS, day):
        raise DayLimitError(f"{day}: table objects has no such day; there is nothing to verify")
    stored = day_rows(warehouse, OBJECTS, day, ["key"])
    lines = [*_other_inputs(arguments), *_other_objects(arguments, {row["key"] for row in stored})]
    selection = replace(arguments.selection, only=frozenset(row["key"] for row in stored))
    written = evidence(warehouse, day)
    by_policy = _other_policy(written, arguments)
    with _scratch(warehouse, day) as beside:
        anew = replace(arguments, selection=selection, warehouse=beside, notices=Notices(), fail_on=None, counts={})
        for step in steps.values():
            step(spark, anew)
        if warehouse.has_day(OCSF_TABLE, day) and beside.has_day(NAT_MAPPINGS_TABLE, day):
            export_day(spark, beside, day, arguments.now)
        lines += _changed_objects(warehouse, beside, day)
        tables = [*_compared(spark, warehouse, beside, day, by_policy)]
        report = [*_report(written.document, beside, day)] if written.document and by_policy is None else []
    arguments.counts["verified_tables"] = {result: sum(one.result == result for one in tables) for result in (EQUAL, DIFFERENT)}
    lines += [*map(str, (*tables, *report)), *written.lines]
    different = [*(one.name for one in (*tables, *report) if one.result == DIFFERENT), *written.different]
    if different:
        told = f"{day}: different from what its objects give: {', '.join(different)}; nothing was replaced"
        raise ReconciliationError(told, "\n".join(lines))
    return "\n".join([*lines, f"verified   {day}: all that was compared is equal"])


@contextmanager
def _scratch(warehouse: Warehouse, day: date) -> Iterator[Beside]:
    """A scratch warehouse below the standing one, where the same workers can write; removed at the end."""
    prefix = f"{warehouse.prefix}{VERIFYING}{warehouse.run_id}/"
    try:
        yield Beside(warehouse.storage, prefix, warehouse.table_format, warehouse.run_id, warehouse, day)
    finally:
        warehouse.storage.delete_folder(prefix)


def _other_inputs(arguments: DayArguments) -> list[str]:
    """What the day's run was given, as its latest report has it, and this one was not."""
    latest = versions(arguments.warehouse, arguments.selection.day)[-1:]
    if not latest:
        return []
    given = {
        "code_version": flowlog_udfs.__version__,
        "config_digest": arguments.config.digest(),
        "policy_digest": arguments.policy.digest(),
        "inventory_digest": arguments.inventory.digest() if arguments.inventory else None,
    }
    other = [name.partition("_")[0].replace("code", "release") for name, value in given.items() if latest[0][name] != value]
    return [f"warning    the day's report was made with another {name}" for name in other]


def _other_objects(arguments: DayArguments, read: set[str]) -> list[str]:
    """Objects that arrived since the day was run, and those that are gone."""
    _, listing = list_source(arguments.selection, arguments.config, held_elsewhere(arguments.warehouse, arguments.selection.day))
    listed = {one.stored.key for one in listing.objects}
    lines = _named("arrived", "arrived since, left out; run the day again to hold it", listed - read)
    return lines + _named("gone", "no longer there", read - listed)


def _changed_objects(warehouse: Warehouse, beside: Warehouse, day: date) -> list[str]:
    """Objects whose content is another than the day's run read."""
    before, now = (
        {row["key"]: (row["sha256"], row["error"]) for row in day_rows(one, OBJECTS, day, ["key", "sha256", "error"])}
        for one in (warehouse, beside)
    )
    return _named("changed", "has another content", {key for key in before.keys() & now.keys() if before[key] != now[key]})


def _named(what: str, meaning: str, keys: set[str]) -> list[str]:
    lines = [f"{what:<10} {one_line(key)}: {meaning}" for key in sorted(keys)[:SHOWN_OBJECTS]]
    return lines + ([f"{what:<10} … and {len(keys) - SHOWN_OBJECTS:,} more objects"] if len(keys) > SHOWN_OBJECTS else [])


def _other_policy(written: Evidence, arguments: DayArguments) -> str | None:
    """Why what depends on the policy cannot be compared; None where it can."""
    if written.document is None:
        return "no report says by which policy it was made"
    same = written.document["inputs"]["policy"]["digest"] == arguments.policy.digest()
    return None if same else "the report was made by another policy"


def _compared(spark: SparkSession, warehouse: Warehouse, beside: Warehouse, day: date, by_policy: str | None) -> Iterator[Said]:
    """What each table came to, those apart that are evidence."""
    for entry in TABLES:
        table, is_judged = entry.table, entry.table in JUDGEMENT_TABLES
        if table.name in EVIDENCE:
            continue
        if (is_judged and by_policy) or not beside.has_day(table, day):
            if warehouse.has_day(table, day):
                yield Said(LEFT_OUT, table.name, (is_judged and by_policy) or "the steps that were asked for do not make it")
            continue
        how = HOW.get(table.name, Compared())
        if table == OCSF_TABLE and (releases := _other_releases(spark, warehouse, day)):
            how = Compared(without=("metadata",))
            yield Said(LEFT_OUT, table.name, f"column metadata, in which release {', '.join(releases)} stands")
        before, now = fingerprints(spark, (warehouse, beside), table, day, how)
        if before == now:
            yield Said(EQUAL, table.name, f"{before.rows:,} rows, digest {before.digest[:16]}")
        else:
            lost, added = differences(spark, (warehouse, beside), table, day, how)
            rows = f"{before.rows:,} rows stored, {now.rows:,} worked out"
            yield Said(DIFFERENT, table.name, f"{rows}; {lost:,} only stored, {added:,} only worked out")


def _other_releases(spark: SparkSession, warehouse: Warehouse, day: date) -> list[str]:
    """The releases, but for this one, that a day's events were exported by."""
    found = warehouse.read(spark, OCSF_TABLE, day).select("metadata.product.version").distinct().collect()
    return sorted({str(row[0]) for row in found} - {flowlog_udfs.__version__})


def _report(before: Mapping[str, Any], beside: Warehouse, day: date) -> Iterator[Said]:
    """The newest version against the report that was made anew, where one was."""
    now = report_at(beside, f"{beside.prefix}reports/day={day}/report.json")
    if now is None:
        return
    other = _other_sections(before, now)
    yield Said(DIFFERENT, "report", ", ".join(other)) if other else Said(EQUAL, "report", "all sections that do not grow")


def _other_sections(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """The sections of a report that are different, those apart that grow after a day is done, and what names its release."""
    left_out = {*GROWING, RELEASE}
    if before[RELEASE] != now[RELEASE]:
        before, now = (one | {"inputs": {**one["inputs"], "analytics_digest": None}} for one in (dict(before), dict(now)))
    names = sorted({*before, *now} - left_out)
    return [name for name in names if json.dumps(before.get(name), sort_keys=True) != json.dumps(now.get(name), sort_keys=True)]
