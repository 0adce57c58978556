"""A day's tables to tables `findings`, `assessments` and `external_peers`, and to all that its report counts over connections.

One pass over `connections` and one over `nat_mappings`, each with one shuffle; everything else is small and read by the driver.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from flowlog_udfs.agreement import agreed_inputs
from flowlog_udfs.columns import codes, mixed, text_hashes
from flowlog_udfs.config import Config
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS
from flowlog_udfs.initiation import LEGS_TABLE
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.ledger import RUNS_TABLE
from flowlog_udfs.policy.assessments import ASSESSMENTS, ASSESSMENTS_TABLE, Known, assessments
from flowlog_udfs.policy.findings import FINDINGS, FINDINGS_TABLE, Found, findings
from flowlog_udfs.policy.gaps import Presence, expectations, gaps, has_earlier_run
from flowlog_udfs.policy.gathering import FOUND, brought_together, subject_hashes
from flowlog_udfs.policy.matching import READ, Judge, matches
from flowlog_udfs.policy.model import HISTORY_DAYS, FirstSeen, Policy
from flowlog_udfs.policy.segments import Segments
from flowlog_udfs.policy.spreading import initiator_hashes, spread_out, touches
from flowlog_udfs.policy.trends import (
    EXTERNAL_PEERS_TABLE,
    SUBNET_COLUMNS,
    Subnet,
    external_peers,
    first_seen,
    large_transfers,
    sent_to_internet,
)
from flowlog_udfs.presence import INTERFACES_TABLE, nat_gateways
from flowlog_udfs.report import counting
from flowlog_udfs.scan import Scanned, row_groups, scan
from flowlog_udfs.subnets import RECONCILIATION_TABLE, SUBNET_BYTES_TABLE
from flowlog_udfs.subscriptions import subscriptions
from flowlog_udfs.tables import Table, Warehouse, logical_schema
from flowlog_udfs.tallies import TALLIES_TABLE
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

JUDGED_TABLES = (
    *(OBJECTS, COVERAGE_TABLE, RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS, TALLIES_TABLE, LEGS_TABLE, INTERFACES_TABLE),
    *(CONNECTIONS_TABLE, NAT_MAPPINGS_TABLE, SUBNET_BYTES_TABLE, RECONCILIATION_TABLE),
)
"""The tables of a day that its report speaks of, in the order in which a run replaces them."""
JUDGEMENT_TABLES = (EXTERNAL_PEERS_TABLE, ASSESSMENTS_TABLE, FINDINGS_TABLE)
"""Those that a report is made with."""
ROWS_PER_PARTITION = 1_000_000
_COUNTED = {"found": FOUND, "talkers": counting.TALKERS, "refused": counting.REFUSED, "evidence": counting.EVIDENCE}
_OUTCOME = pa.schema([(name, pa.struct(list(schema))) for name, schema in _COUNTED.items()])


@dataclass(frozen=True)
class Counted:
    """What one pass over the connections and one over the NAT mappings came to."""

    found: list[Found]
    talkers: pa.Table
    refused: pa.Table
    evidence: pa.Table
    behind: pa.Table


@dataclass(frozen=True)
class Judged:
    """A day judged: from which inputs, rows of `findings` and `assessments`, what was seen, and what the report counts."""

    inputs: str
    policy: Policy
    findings: list[dict[str, Any]]
    assessments: list[dict[str, Any]]
    presence: Presence
    counted: Counted


def judge_day(
    spark: SparkSession,
    warehouse: Warehouse,
    read: Warehouse,
    day: date,
    policy: Policy,
    config: Config,
    inventory: Inventory | None,
    now: datetime,
) -> Judged:
    """Replace the day in `findings`, `assessments` and `external_peers`; raises `DayLimitError` when an earlier step was not run."""
    for table, step in ((COVERAGE_TABLE, "ingest_records"), (CONNECTIONS_TABLE, "attribute_initiators"), (NAT_MAPPINGS_TABLE, "map_nat")):
        _require(read, table, day, step)
    _require(read, RECONCILIATION_TABLE, day, "total_subnet_bytes")
    interfaces = day_rows(read, INTERFACES_TABLE, day)
    judge = Judge(policy, Segments.of(policy.segments, inventory), day, nat_gateways(interfaces))
    counted = count_day(spark, read, judge)
    expected = expectations(policy.expected, inventory, {row["vpc_id"] for row in interfaces})
    presence = Presence(day_rows(read, COVERAGE_TABLE, day), interfaces, expected, inventory)

    days = days_before(read, SUBNET_BYTES_TABLE, day)
    sent = [sent_by_subnet(read, one) for one in days]
    of_peers = {number for number, _ in judge.numbered(FirstSeen)}
    met = [row for row in counted.found if row["rule"] in of_peers]
    peers_before = [_peers(read, one) for one in days_before(read, EXTERNAL_PEERS_TABLE, day)]
    rows = [row for row in counted.found if row["rule"] not in of_peers]
    rows += first_seen(judge, met, peers_before)
    rows += large_transfers(judge, sent_by_subnet(read, day), sent)
    run_days = {one for one, _ in read.part_keys(RUNS_TABLE) if one < day}
    rows += gaps(judge, presence, run_days)
    regions = {row["vpc_id"]: row["region"] for row in interfaces if row["vpc_id"] and row["region"]}
    found = findings(rows, policy, day, regions)

    objects = day_rows(read, OBJECTS, day, ["flow_log_id", "account_id", "region", "log_format"])
    fields_of = {name: log.fields for name, log in subscriptions(objects, inventory).items()}
    days_known = min(len(days), len(peers_before)) if met else len(days)
    known = Known(fields_of, bool(config.attribution.ip_ranges), days_known, bool(expected), has_earlier_run(day, run_days))
    missing_vpcs = [name for kind, name in presence.missing if kind == "vpc"]
    assessed = assessments(policy, found, interfaces, missing_vpcs, known)

    inputs = f"{agreed_inputs(read, day, JUDGED_TABLES)}/{policy.digest()}"
    for table, made in (
        (EXTERNAL_PEERS_TABLE, external_peers(met)),
        (ASSESSMENTS_TABLE, pa.Table.from_pylist(assessed, ASSESSMENTS)),
        (FINDINGS_TABLE, pa.Table.from_pylist(found, FINDINGS)),
    ):
        warehouse.replace_day(table, day, warehouse.write_rows(table, day, made), inputs=inputs, now=now)
    return Judged(inputs, policy, found, assessed, presence, counted)


def _require(warehouse: Warehouse, table: Table, day: date, step: str) -> None:
    if not warehouse.has_day(table, day):
        raise DayLimitError(f"{day}: table {table.name} has no such day; run {step} first")


def count_day(spark: SparkSession, warehouse: Warehouse, judge: Judge) -> Counted:
    """Look at every connection and every NAT mapping of the judge's day."""
    groups = row_groups(warehouse, CONNECTIONS_TABLE, judge.day)
    partitions = sum(group.rows for group in groups) // ROWS_PER_PARTITION + 2

    def look(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, rows in scanned:
            matched, touched, talked = matches(rows, judge), touches(rows, judge), counting.talkers(rows)
            yield from blobs("matched", matched, subject_hashes(matched), partitions)
            yield from blobs("touched", touched, initiator_hashes(touched), partitions)
            yield from blobs("talkers", talked, _initiators(talked), partitions)
            seen = counting.evidence(rows)
            yield from blobs("evidence", seen, np.zeros(seen.num_rows, np.uint64), partitions)

    def conclude(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        found = [brought_together(inputs["matched"])] if "matched" in inputs else []
        parts = {}
        if "touched" in inputs:
            found.append(spread_out(inputs["touched"], judge))
            parts["refused"] = counting.most_refused(inputs["touched"])
        if "talkers" in inputs:
            parts["talkers"] = counting.top_talkers(inputs["talkers"])
        if "evidence" in inputs:
            parts["evidence"] = counting.all_evidence(inputs["evidence"])
        parts["found"] = pa.concat_tables([FOUND.empty_table(), *found])
        rows = [{name: row} for name, table in parts.items() for row in table.to_pylist()]
        return pa.Table.from_pylist(rows, _OUTCOME)

    columns = list(dict.fromkeys((*READ, *counting.READ)))
    scanned = scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, columns, look, BLOB_COLUMNS)
    outcome = exchange([scanned], conclude, _OUTCOME).toArrow() if groups else _OUTCOME.empty_table()
    tables = {name: _unnested(outcome.column(name), schema) for name, schema in _COUNTED.items()}
    return Counted(
        tables["found"].to_pylist(),
        counting.top_talkers(tables["talkers"]),
        counting.top_refused(tables["refused"]),
        counting.all_evidence(tables["evidence"]),
        _behind(spark, warehouse, judge.day),
    )


def _behind(spark: SparkSession, warehouse: Warehouse, day: date) -> pa.Table:
    """Rows of `counting.BEHIND` for the day's NAT mappings."""
    groups = row_groups(warehouse, NAT_MAPPINGS_TABLE, day)
    if not groups:
        return counting.BEHIND.empty_table()
    partitions = sum(group.rows for group in groups) // ROWS_PER_PARTITION + 2

    def look(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, rows in scanned:
            talked = counting.talks(rows)
            yield from blobs("talks", talked, counting.translator_hashes(talked), partitions)

    scanned = scan(spark, warehouse, groups, NAT_MAPPINGS_TABLE.schema, counting.TALK_COLUMNS, look, BLOB_COLUMNS)
    return exchange([scanned], lambda _, inputs: counting.behind(inputs["talks"]), counting.BEHIND).toArrow()


def _initiators(talked: pa.Table) -> Any:
    """What rows of one initiator share."""
    code, words = codes(talked.column("initiator_addr"))
    return mixed(np.append(text_hashes(words), np.uint64(0))[code].view(np.int64))


def _unnested(column: pa.ChunkedArray, schema: pa.Schema) -> pa.Table:
    structs = pc.drop_null(column)
    pieces = [pa.Table.from_batches([pa.RecordBatch.from_struct_array(chunk)]).cast(schema) for chunk in structs.chunks if len(chunk)]
    return pa.concat_tables([schema.empty_table(), *pieces])


def days_before(warehouse: Warehouse, table: Table, day: date) -> list[date]:
    """The days of a table among the last 14 before `day`, the newest first."""
    found = {one for one, _ in warehouse.part_keys(table) if day - timedelta(days=HISTORY_DAYS) <= one < day}
    return sorted(found, reverse=True)


def day_rows(warehouse: Warehouse, table: Table, day: date, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a small table's day."""
    keys = sorted(key for one, key in warehouse.part_keys(table) if one == day)
    return [row for part in warehouse.rows(table, keys, columns or table.schema.names) for row in part.to_pylist()]


def sent_by_subnet(warehouse: Warehouse, day: date) -> Counter[Subnet]:
    """Accepted bytes that each subnet sent to the internet on a day."""
    keys = [key for one, key in warehouse.part_keys(SUBNET_BYTES_TABLE) if one == day]
    plain = logical_schema(SUBNET_BYTES_TABLE.schema)
    wanted = pa.schema([plain.field(name) for name in SUBNET_COLUMNS])
    return sent_to_internet(part.cast(wanted) for part in warehouse.rows(SUBNET_BYTES_TABLE, keys, SUBNET_COLUMNS))


def _peers(warehouse: Warehouse, day: date) -> set[tuple[str, str]]:
    return {(row["segment"], row["peer_addr"]) for row in day_rows(warehouse, EXTERNAL_PEERS_TABLE, day, ["segment", "peer_addr"])}
