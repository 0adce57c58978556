"""A past day worked out again from its objects and compared with what its tables hold; nothing is replaced.

The day goes through the same steps into a scratch folder of the warehouse, which is removed at the end; of other days it sees what the
warehouse holds. It reads the objects that the day's run read: what arrived since is named, and left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import flowlog_udfs
from flowlog_udfs.catalog import TABLES
from flowlog_udfs.compliance import day_rows
from flowlog_udfs.delta import Origin
from flowlog_udfs.errors import DayLimitError, ReconciliationError, one_line
from flowlog_udfs.fingerprints import Compared, Fingerprint, differences, fingerprint
from flowlog_udfs.ingest import OBJECTS, held_elsewhere
from flowlog_udfs.ledger import report_at, versions
from flowlog_udfs.leftovers import VERIFYING
from flowlog_udfs.maintenance import EVIDENCE
from flowlog_udfs.notices import Notices
from flowlog_udfs.ocsf.schema import OCSF_TABLE
from flowlog_udfs.policy.assessments import ASSESSMENTS_TABLE
from flowlog_udfs.policy.findings import FINDINGS_TABLE
from flowlog_udfs.policy.trends import EXTERNAL_PEERS_TABLE
from flowlog_udfs.report.document import GROWING
from flowlog_udfs.selection import list_source
from flowlog_udfs.tables import Table, Warehouse
from flowlog_udfs.tallies import SUMS, TALLIES_TABLE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from flowlog_udfs.day_arguments import DayArguments, Step

JUDGED = (FINDINGS_TABLE.name, ASSESSMENTS_TABLE.name, EXTERNAL_PEERS_TABLE.name)
"""Tables that depend on the policy."""
NOT_COMPARED = (*EVIDENCE, OCSF_TABLE.name)
HOW = {
    # Where an object lies is not what is in it: of a copy the SHA-256 is the same.
    OBJECTS.name: Compared(without=("etag", "last_modified")),
    # Each task adds up its own records, and another machine cuts the work otherwise.
    TALLIES_TABLE.name: Compared(summed=SUMS),
}
"""How a table is compared, if not by its rows as they are."""
SHOWN_OBJECTS = 5


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

    def origin(self, table: Table, day: date) -> Origin | None:
        """Of the day its own, of others that of the standing warehouse."""
        return super().origin(table, day) if day == self.day or not self.standing else self.standing.origin(table, day)


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
    with _scratch(warehouse, day) as beside:
        anew = replace(arguments, selection=selection, warehouse=beside, notices=Notices(), fail_on=None, counts={})
        for step in steps.values():
            step(spark, anew)
        lines += _changed_objects(warehouse, beside, day)
        told, different = _compared(spark, warehouse, beside, arguments)
    lines += told
    arguments.counts["verified_tables"] = {"equal": len(told) - len(different), "different": len(different)}
    if different:
        print("\n".join(lines), flush=True)
        raise ReconciliationError(f"{day}: different from what its objects give: {', '.join(different)}; nothing was replaced")
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


def _compared(spark: SparkSession, warehouse: Warehouse, beside: Warehouse, arguments: DayArguments) -> tuple[list[str], list[str]]:
    """A line for each thing that was compared, and the names of those that are different."""
    day, lines, different = arguments.selection.day, [], []
    latest = versions(warehouse, day)[-1:]
    same_policy = bool(latest) and latest[0]["policy_digest"] == arguments.policy.digest()
    for entry in TABLES:
        table = entry.table
        if table.name in NOT_COMPARED or not beside.has_day(table, day) or (table.name in JUDGED and not same_policy):
            continue
        how = HOW.get(table.name, Compared())
        before, now = (fingerprint(spark, one, table, day, how) for one in (warehouse, beside))
        lines.append(_line(table.name, before, now))
        if before != now:
            lost, added = differences(spark, (warehouse, beside), table, day, how)
            lines[-1] += f"; {lost:,} only stored, {added:,} only worked out"
            different.append(table.name)
    if same_policy and beside.has_day(FINDINGS_TABLE, day):
        other = _other_sections(*(_document(one, day) for one in (warehouse, beside)))
        lines.append(f"different  report: {', '.join(other)}" if other else "equal      report")
        different += ["report"] if other else []
    return lines, different


def _line(name: str, before: Fingerprint, now: Fingerprint) -> str:
    if before == now:
        return f"{'equal':<10} {name}: {before.rows:,} rows, digest {before.digest[:16]}"
    return f"{'different':<10} {name}: {before.rows:,} rows stored, {now.rows:,} worked out"


def _document(warehouse: Warehouse, day: date) -> Mapping[str, Any]:
    return report_at(warehouse, f"{warehouse.prefix}reports/day={day}/report.json") or {}


def _other_sections(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """The sections of a report that are different, those apart that grow after a day is done."""
    names = sorted({*before, *now} - set(GROWING))
    return [name for name in names if json.dumps(before.get(name), sort_keys=True) != json.dumps(now.get(name), sort_keys=True)]
