"""A day's `nat_legs` to table `nat_mappings`: which inside leg of a translator is which outside leg.

Legs of one talk (translator, protocol, remote end) are brought together and paired. What pairing alone tells of a connection (the targets
of a balancer, a gateway without a name, a translating instance) is written into `connections`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from flowlog_udfs.agreement import MARKED, agreed_inputs, attributed
from flowlog_udfs.columns import Ints, equals, shared_codes, texts
from flowlog_udfs.connections import CONNECTIONS_TABLE, NAT_LEGS
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.initiation import LEGS_TABLE, ROWS_PER_PARTITION
from flowlog_udfs.nat import MARKS, NAT_MAPPINGS, map_legs, talk_hashes
from flowlog_udfs.parts import PartFile
from flowlog_udfs.scan import Scanned, row_groups, scan
from flowlog_udfs.tables import Table, Warehouse

NAT_MAPPINGS_TABLE = Table("nat_mappings", NAT_MAPPINGS, ("nat_id", "nat_addr", "inside_addr", "remote_addr", "first_start", "last_end"))

_PART = pa.struct([("key", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("statistics", pa.string())])
_OUTCOME = pa.schema([("part", _PART), ("method", pa.string()), ("mappings", pa.int64()), *MARKS])
_PARTS = pa.schema([("part", _PART)])


@dataclass(frozen=True)
class Translation:
    """What the step did: mappings by method, and connections whose translation only pairing told."""

    by_method: Mapping[str, int]
    marked: int


def map_day(spark: SparkSession, warehouse: Warehouse, day: date, now: datetime) -> Translation:
    """Replace the day in `nat_mappings` from its `nat_legs`.

    Raises `DayLimitError` when connections were not attributed, `StorageError` when they and the legs are of different runs.
    """
    read = warehouse.pinned()
    if not read.has_day(CONNECTIONS_TABLE, day):
        raise DayLimitError(f"{day}: table connections has no such day; run attribute_initiators first")
    inputs = attributed(agreed_inputs(read, day, (LEGS_TABLE, CONNECTIONS_TABLE)))
    _, carried_from = read.origin(CONNECTIONS_TABLE, day) or ("", None)
    groups = row_groups(read, LEGS_TABLE, day)
    outcome = _mapped(spark, warehouse, day, groups) if groups else _OUTCOME.empty_table()
    parts, by_method = [], Counter[str]()
    for row in outcome.select(["part", "method", "mappings"]).to_pylist():
        if row["part"]:
            parts.append(PartFile(**row["part"]))
        elif row["method"]:
            by_method[row["method"]] += row["mappings"]
    marks = outcome.select(MARKS.names).filter(outcome.column("connection").is_valid())
    if marks.num_rows and inputs:
        inputs += f"/{MARKED}"
    warehouse.replace_day(NAT_MAPPINGS_TABLE, day, parts, inputs=inputs, now=now)
    if marks.num_rows:
        rewritten = _mark(spark, warehouse, day, row_groups(read, CONNECTIONS_TABLE, day), marks)
        warehouse.replace_day(CONNECTIONS_TABLE, day, rewritten, inputs=inputs, now=now, carried_from=carried_from)
    return Translation(by_method, marks.num_rows)


def _mapped(spark: SparkSession, warehouse: Warehouse, day: date, groups: list[Any]) -> pa.Table:
    partitions = sum(group.rows for group in groups) // ROWS_PER_PARTITION + 2

    def cut(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, legs in scanned:
            yield from blobs("legs", legs, talk_hashes(legs), partitions)

    def pair(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        mappings, marks = map_legs(inputs["legs"])
        writer = warehouse.writer(NAT_MAPPINGS_TABLE, day)
        if mappings.num_rows:
            writer.write(mappings)
        outcomes: list[dict[str, Any]] = [{"part": asdict(part)} for part in writer.close()]
        counts = mappings.group_by(["method"]).aggregate([([], "count_all")]).to_pylist()
        outcomes += [{"method": row["method"], "mappings": row["count_all"]} for row in counts]
        return pa.Table.from_pylist(outcomes + marks.to_pylist(), _OUTCOME)

    rows = scan(spark, warehouse, groups, LEGS_TABLE.schema, LEGS_TABLE.schema.names, cut, BLOB_COLUMNS)
    return exchange([rows], pair, _OUTCOME).toArrow()


def _mark(spark: SparkSession, warehouse: Warehouse, day: date, groups: list[Any], marks: pa.Table) -> list[PartFile]:
    """The day's connections written again with marks."""

    def rewrite(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        writer = warehouse.writer(CONNECTIONS_TABLE, day)
        for _, rows in scanned:
            writer.write(marked(rows, marks))
        yield from pa.Table.from_pylist([{"part": asdict(part)} for part in writer.close()], _PARTS).to_batches()

    written = scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, CONNECTIONS_TABLE.schema.names, rewrite, _PARTS)
    return [PartFile(**row["part"]) for row in written.toArrow().to_pylist()]


def _places(table: pa.Table) -> Ints:
    """Each row's place in `NAT_LEGS`; -1 for none."""
    column = table.column("nat_leg")
    return np.where(equals(column, NAT_LEGS[0]), 0, np.where(equals(column, NAT_LEGS[1]), 1, -1))


def marked(connections: pa.Table, marks: pa.Table) -> pa.Table:
    """Connections with the `nat_id` and `nat_leg` of `marks`; an inside leg goes before an outside one, then the first name counts."""
    if not marks.num_rows:
        return connections
    leg, name = _places(marks), marks.column("nat_id").to_pylist()
    order = np.lexsort((np.array([text or "" for text in name]), leg, marks.column("connection").to_numpy()))
    ids = marks.column("connection").to_numpy()[order]
    at = np.minimum(np.searchsorted(ids, connections.column("connection_id").to_numpy()), len(ids) - 1)
    found = ids[at] == connections.column("connection_id").to_numpy()
    own = _places(connections)
    changes = found & ((own < 0) | (leg[order][at] < own))
    (old, new), words = shared_codes(connections.column("nat_id"), pa.array(name, pa.string()))
    columns = {
        "nat_id": texts(np.where(changes, new[order][at], old), words),
        "nat_leg": texts(np.where(changes, leg[order][at], own), pa.array(NAT_LEGS)),
    }
    for column, values in columns.items():
        place = connections.schema.get_field_index(column)
        connections = connections.set_column(place, connections.schema.field(column), values.cast(connections.schema.field(column).type))
    return connections
