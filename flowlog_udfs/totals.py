"""A day's `tallies` to tables `subnet_bytes` and `reconciliation`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from flowlog_udfs.agreement import agreed_inputs
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.ingest import RECORDS_TABLE
from flowlog_udfs.legs import LOAD_BALANCER
from flowlog_udfs.scan import Scanned, row_groups, scan
from flowlog_udfs.subnets import RECONCILIATION_TABLE, SUBNET_BYTES_TABLE, reconciliation, relayed, subnet_bytes
from flowlog_udfs.tables import Warehouse, logical_schema
from flowlog_udfs.tallies import TALLIES, TALLIES_TABLE, merged
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

_RAW = pa.schema([("records", pa.int64()), ("bytes", pa.int64())])
_LINKED = pa.schema([("connection_id", pa.int64()), ("nat_id", pa.string()), ("nat_leg", pa.string())])


@dataclass(frozen=True)
class Totals:
    """What the step did: the account (scope, measure, bucket -> value), and bytes by subnet, most first."""

    account: Mapping[tuple[str, str, str], int]
    by_subnet: Mapping[str, int]


def total_day(spark: SparkSession, warehouse: Warehouse, day: date, now: datetime) -> Totals:
    """Replace the day in `subnet_bytes` and `reconciliation` from its `tallies`, checked against what `records` holds.

    Raises `DayLimitError` when connections were not attributed, `StorageError` when the tables are of different runs, and
    `ReconciliationError` when the buckets do not add up to the records.
    """
    read = warehouse.pinned()
    if not read.has_day(TALLIES_TABLE, day):
        raise DayLimitError(f"{day}: table tallies has no such day; run attribute_initiators first")
    inputs = agreed_inputs(read, day, (RECORDS_TABLE, TALLIES_TABLE, CONNECTIONS_TABLE, NAT_MAPPINGS_TABLE))
    groups = row_groups(read, TALLIES_TABLE, day)

    plain = logical_schema(TALLIES)

    def merge(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        yield from merged([rows for _, rows in scanned]).cast(plain).to_batches()

    tallies = merged([scan(spark, warehouse, groups, TALLIES, TALLIES.names, merge, plain).toArrow()])
    records, octets = _raw(spark, read, day)
    account = reconciliation(tallies, records, octets)
    totals = subnet_bytes(tallies, _relayed(spark, read, day, tallies))
    for table, rows in ((SUBNET_BYTES_TABLE, totals), (RECONCILIATION_TABLE, account)):
        warehouse.replace_day(table, day, warehouse.write_rows(table, day, rows), inputs=inputs, now=now)
    summed = totals.group_by(["subnet_id"]).aggregate([("bytes", "sum")])
    moved = zip(summed.column("subnet_id").to_pylist(), summed.column("bytes_sum").to_pylist(), strict=True)
    by_subnet = dict(sorted(moved, key=lambda one: (-one[1], one[0])))
    return Totals({(row["scope"], row["measure"], row["bucket"]): row["value"] for row in account.to_pylist()}, by_subnet)


def _raw(spark: SparkSession, warehouse: Warehouse, day: date) -> tuple[int, int]:
    """Records of a day and their bytes, counted in the table itself and not by those who shared them out."""

    def count(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for group, records in scanned:
            octets = pc.sum(records.column("bytes")).as_py() or 0
            yield pa.record_batch([[group.rows], [octets]], schema=_RAW)

    groups = row_groups(warehouse, RECORDS_TABLE, day)
    found = scan(spark, warehouse, groups, RECORDS_TABLE.schema, ["bytes"], count, _RAW).toArrow()
    return sum(found.column("records").to_pylist()), sum(found.column("bytes").to_pylist())


def _relayed(spark: SparkSession, warehouse: Warehouse, day: date, tallies: pa.Table) -> npt.NDArray[np.int64]:
    """Ids of connections that a balancer passed on; connections are read only where there may be one."""
    if tallies.column("connection_id").null_count == tallies.num_rows:
        return np.zeros(0, np.int64)
    keys = [key for d, key in warehouse.part_keys(NAT_MAPPINGS_TABLE) if d == day]
    mapped = (
        rows.filter(pc.equal(rows.column("nat_kind"), LOAD_BALANCER))
        for rows in warehouse.rows(NAT_MAPPINGS_TABLE, keys, ["nat_id", "nat_kind"])
    )
    balancers = frozenset(name for rows in mapped for name in rows.column("nat_id").unique().to_pylist())

    def linked(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, rows in scanned:
            found = rows.filter(rows.column("nat_leg").is_valid())
            yield from found.cast(_LINKED).to_batches()

    groups = row_groups(warehouse, CONNECTIONS_TABLE, day)
    rows = scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, _LINKED.names, linked, _LINKED).toArrow()
    return relayed([rows], balancers)
