"""A day's records to table `connections`: who initiated each.

Three passes over the day's part files. The survey learns the interfaces. The second pass learns which ends answer: those that sent a
SYN-ACK. The third brings the rows of each five-tuple together and attributes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from flowlog_udfs.attribution import Knowledge, attribute
from flowlog_udfs.columns import mixed, numbers
from flowlog_udfs.connections import CONNECTIONS, connections
from flowlog_udfs.endpoints import READ, observe
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE
from flowlog_udfs.initiators import Confidences
from flowlog_udfs.interfaces import SURVEY, SURVEYED, Survey, merge, survey
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.networks import Networks
from flowlog_udfs.parts import PartFile
from flowlog_udfs.scan import row_groups, scan
from flowlog_udfs.services import PortRules, Service
from flowlog_udfs.tables import Table, Warehouse
from flowlog_udfs.tcp_flags import is_syn_ack

CONNECTIONS_TABLE = Table(
    "connections",
    CONNECTIONS,
    ("initiator_addr", "responder_addr", "responder_port", "protocol", "first_start", "last_end", "action", "state", "basis"),
)
ROWS_PER_PARTITION = 1_000_000

_END = pa.schema([("end", pa.int64())])
_PART = pa.schema([("key", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("statistics", pa.string())])


@dataclass(frozen=True)
class Setting:
    """What the third pass is told of the day: interfaces, networks, and which of two overlapping flow logs to believe."""

    survey: Survey
    networks: Networks
    ranks: Mapping[str, int]

    def observed(self, records: pa.Table) -> pa.Table:
        """Observed rows of a batch of records."""
        return observe(records, self.survey, self.networks, self.ranks)


@dataclass(frozen=True)
class Initiation:
    """What the step did: connections by basis and by state."""

    by_basis: Mapping[str, int]
    by_state: Mapping[str, int]
    refused_joins: tuple[str, ...]


def initiate_day(
    spark: SparkSession,
    warehouse: Warehouse,
    day: date,
    *,
    inventory: Inventory | None,
    links: tuple[tuple[str, ...], ...] = (),
    services: tuple[Service, ...],
    now: datetime,
) -> Initiation:
    """Replace the day in `connections` from its `records`; raises `DayLimitError` when the day was not ingested."""
    groups = row_groups(warehouse, RECORDS_TABLE, day)
    if not groups:
        raise DayLimitError(f"{day}: table records has no such day; run ingest_records first")
    surveyed = scan(spark, warehouse, groups, RECORDS_TABLE.schema, SURVEYED, _survey, SURVEY).toArrow()
    found = merge([surveyed], inventory)
    networks = Networks.build(inventory, links, {vpc for one in found.interfaces.values() if (vpc := one.named["vpc_id"])})
    setting = Setting(found, networks, flow_log_ranks(warehouse, day))

    def servers(batches: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from _proven(setting.observed(batch)).to_batches()

    answering = scan(spark, warehouse, groups, RECORDS_TABLE.schema, READ, servers, _END).distinct().toArrow()
    known = Knowledge(
        carried=np.zeros(0, np.uint64),
        carried_initiator=np.zeros(0, np.int64),
        servers=np.sort(answering.column("end").to_numpy().view(np.uint64)),
        fan_in=np.zeros(0, np.uint64),
        ports=PortRules.build(services),
        confidences=Confidences(),
    )
    partitions = sum(group.rows for group in groups) // ROWS_PER_PARTITION + 2

    def cut(batches: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = setting.observed(batch)
            hashed = mixed(rows.column("lo_end").to_numpy(), rows.column("hi_end").to_numpy())
            yield from blobs("rows", rows, hashed, partitions)

    def write(partition: int, inputs: dict[str, pa.Table]) -> pa.Table:
        writer = warehouse.writer(CONNECTIONS_TABLE, day)
        writer.write(connections(attribute(inputs["rows"], known)))
        return pa.Table.from_pylist([asdict(part) for part in writer.close()], _PART)

    rows = scan(spark, warehouse, groups, RECORDS_TABLE.schema, READ, cut, BLOB_COLUMNS)
    parts = [PartFile(**part) for part in exchange([rows], write, _PART).toArrow().to_pylist()]
    warehouse.replace_day(CONNECTIONS_TABLE, day, parts, inputs="", now=now)
    return Initiation({}, {}, tuple(map(str, networks.refused)))


def flow_log_ranks(warehouse: Warehouse, day: date) -> dict[str, int]:
    """Flow logs of a day by rank: more fields first, then by id."""
    fields: dict[str, int] = {}
    keys = [key for d, key in warehouse.part_keys(OBJECTS) if d == day]
    for rows in warehouse.rows(OBJECTS, keys, ["flow_log_id", "log_format"]):
        for row in rows.to_pylist():
            fields[row["flow_log_id"]] = max(fields.get(row["flow_log_id"], 0), len((row["log_format"] or "").split()))
    return {name: rank for rank, name in enumerate(sorted(fields, key=lambda name: (-fields[name], name)))}


def _survey(batches: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from survey(batch).to_batches()


def _proven(rows: pa.Table) -> pa.Table:
    """The ends that answered a SYN, by hash."""
    answered = is_syn_ack(numbers(rows.column("flags"), -1)) & numbers(rows.column("trusted_ack"), 0).astype(bool)
    forward = numbers(rows.column("forward"), 0).astype(bool)
    ends = np.where(forward, rows.column("lo_end").to_numpy(), rows.column("hi_end").to_numpy())[answered]
    return pa.table([pa.array(np.unique(ends).view(np.int64))], schema=_END)
