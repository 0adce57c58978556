"""A day's records to table `connections`: who initiated each; to `interfaces`; and to `nat_legs` and `tallies`, inputs of the next.

Passes over the day's part files: the survey learns the interfaces, the second pass gathers clues, the third brings the rows of each
five-tuple together and works them out. Only where two objects look like one delivery are their rows compared first.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

import flowlog_udfs
from flowlog_udfs.agreement import agreed_inputs, attributed
from flowlog_udfs.analysis import Whole, clued, knowledge, midnight_of, partition_hashes, prepare, scopes_of, work_out
from flowlog_udfs.attribution import Carried, Hashes
from flowlog_udfs.carried import CARRIES, carries, received
from flowlog_udfs.carried import READ as CARRIED_COLUMNS
from flowlog_udfs.clues import CLUES, Batch, clues, handshakes, proven, visited, visits
from flowlog_udfs.clues import READ as CLUED
from flowlog_udfs.columns import numbers
from flowlog_udfs.config import Config
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.endpoints import READ
from flowlog_udfs.errors import DayLimitError, ReconciliationError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE
from flowlog_udfs.interfaces import Survey, merge
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.legs import Gateways
from flowlog_udfs.nat import LEGS
from flowlog_udfs.observed import OBSERVED
from flowlog_udfs.parts import PartFile
from flowlog_udfs.peers import AwsRanges
from flowlog_udfs.presence import INTERFACES_TABLE, presence
from flowlog_udfs.redelivery import redelivered, row_hashes, suspects
from flowlog_udfs.scan import RowGroup, Scanned, row_groups, scan
from flowlog_udfs.services import PortRules, default_services, load_services
from flowlog_udfs.sides import Vantage
from flowlog_udfs.subscriptions import Subscription, subscriptions
from flowlog_udfs.survey import SURVEY, SURVEYED, survey
from flowlog_udfs.tables import Table, Warehouse
from flowlog_udfs.tallies import TALLIES, TALLIES_TABLE

LEGS_TABLE = Table("nat_legs", LEGS)
ROWS_PER_PARTITION = 250_000
"""What the kernels work on at once: columns of so many rows stay in a core's cache, where a million take a sixth longer for each."""
SMALL_PARTITIONS = 2_000
"""So many of that size; larger days have larger ones, for a partition of a task costs a piece of its own in the exchange."""
MOST_ROWS_PER_PARTITION = 1_000_000

_PART = pa.struct([("key", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("statistics", pa.string())])
_OUTCOME = pa.schema(
    [
        ("table", pa.string()),
        ("part", _PART),
        ("basis", pa.string()),
        ("state", pa.string()),
        ("connections", pa.int64()),
        ("held", pa.int64()),  # bytes in connections
        ("accounted", pa.int64()),  # bytes that the tallies say they hold
        ("records", pa.int64()),  # in the tallies
    ]
)
_POSITIONS = pa.schema([("key", pa.string()), ("group", pa.int64()), ("rows", pa.list_(pa.int64()))])
_SUSPECT_ROWS = pa.schema(
    [
        ("suspects", pa.int64()),
        ("object_key", pa.string()),
        ("key", pa.string()),
        ("group", pa.int64()),
        ("row", pa.int64()),
        ("hash", pa.uint64()),
    ]
)


@dataclass(frozen=True)
class Initiation:
    """What the step did: connections by basis and by state, redelivered records, connections carried over midnight, joins refused."""

    by_basis: Mapping[str, int]
    by_state: Mapping[str, int]
    redelivered: int
    carried: int
    refused_joins: tuple[str, ...]


def attribute_day(
    spark: SparkSession, warehouse: Warehouse, day: date, config: Config, inventory: Inventory | None, now: datetime
) -> Initiation:
    """Replace the day in `connections`, `interfaces`, `nat_legs` and `tallies` from its `records`.

    Raises `DayLimitError` when the day was not ingested, `StorageError` when its tables are of different runs, and `ReconciliationError`
    when a byte was mislaid; then nothing is replaced.
    """
    read = warehouse.pinned()
    if not read.has_day(RECORDS_TABLE, day):
        raise DayLimitError(f"{day}: table records has no such day; run ingest_records first")
    ingested = agreed_inputs(read, day, (OBJECTS, RECORDS_TABLE))
    groups = row_groups(read, RECORDS_TABLE, day)
    objects = _objects(read, day)
    rows = sum(group.rows for group in groups)
    partitions = max(min(rows // ROWS_PER_PARTITION, SMALL_PARTITIONS), rows // MOST_ROWS_PER_PARTITION) + 2
    groups = _mark_redelivered(spark, warehouse, groups, objects, partitions)
    logs = subscriptions(objects, inventory)
    surveyed = _survey(spark, warehouse, groups, logs)
    found = merge(surveyed, logs, midnight_of(day), inventory, config.networks.links)
    ranges = AwsRanges.load(Path(config.attribution.ip_ranges)) if config.attribution.ip_ranges else None
    vantage = Vantage.of(found, logs, scopes_of(found, inventory, ranges), inventory)
    services = load_services(Path(config.attribution.services)) if config.attribution.services else default_services()
    ports = PortRules.build(services)
    hashes = clued(_clues(spark, warehouse, groups, vantage, ports, partitions), found.interfaces)
    yesterday = _carried(spark, read, day)
    known = knowledge(vantage, day, ports, hashes, yesterday, config.attribution)
    whole = Whole(known, Gateways.of(inventory, found.interfaces))

    outcome = _work_out(spark, warehouse, day, groups, vantage, whole, partitions)
    _reconcile(outcome, found)
    parts: dict[str, list[PartFile]] = defaultdict(list)
    by_basis: Counter[str] = Counter()
    by_state: Counter[str] = Counter()
    for row in outcome.to_pylist():
        if row["part"]:
            parts[row["table"]].append(PartFile(**row["part"]))
        elif row["basis"]:
            by_basis[row["basis"]] += row["connections"]
            by_state[row["state"]] += row["connections"]
    origin = read.origin(CONNECTIONS_TABLE, day - timedelta(days=1))
    carried_from = attributed(origin.inputs) if origin else None
    inputs = f"{ingested}/{day_digest(objects, config, inventory, carried_from)}"
    parts[INTERFACES_TABLE.name] = warehouse.write_rows(INTERFACES_TABLE, day, presence(surveyed, found, logs))
    for table in (TALLIES_TABLE, LEGS_TABLE, INTERFACES_TABLE, CONNECTIONS_TABLE):
        warehouse.replace_day(table, day, parts[table.name], inputs=inputs, now=now, carried_from=carried_from)
    marked = sum(int(np.unpackbits(np.frombuffer(one.redelivered, np.uint8)).sum()) for one in groups if one.redelivered)
    return Initiation(by_basis, by_state, marked, len(yesterday[0].key), tuple(map(str, found.networks.refused)))


def day_digest(objects: Sequence[Mapping[str, Any]], config: Config, inventory: Inventory | None, carried_from: str | None) -> str:
    """SHA-256 over what the analytics of a day depend on: version, settings, inventory, each object's content, yesterday's evidence."""
    digest = hashlib.sha256(repr((flowlog_udfs.__version__, config, inventory and inventory.digest(), carried_from)).encode())
    for row in sorted(objects, key=lambda row: str(row["key"])):
        digest.update(f"\n{row['key']} {row['sha256']} {row['error']}".encode())
    return digest.hexdigest()


def _objects(warehouse: Warehouse, day: date) -> list[dict[str, Any]]:
    keys = [key for d, key in warehouse.part_keys(OBJECTS) if d == day]
    columns = ["key", "flow_log_id", "account_id", "region", "published_at", "log_format", "records", "row_sketch", "sha256", "error"]
    return [row for rows in warehouse.rows(OBJECTS, keys, columns) for row in rows.to_pylist()]


def _mark_redelivered(
    spark: SparkSession, warehouse: Warehouse, groups: list[RowGroup], objects: Sequence[Mapping[str, Any]], partitions: int
) -> list[RowGroup]:
    """The row groups, with the rows marked that another object of the same flow log delivered before."""
    found = suspects((row["key"], _delivery(row), row["records"], row["row_sketch"]) for row in objects)
    if not found:
        return groups
    suspected = {key: number for number, keys in enumerate(found) for key in keys}

    def rows_of_suspects(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for group, records in scanned:
            keys = records.column("object_key").combine_chunks().cast(pa.string())
            number = np.array([suspected.get(key, -1) for key in keys.to_pylist()], np.int64)
            chosen = np.flatnonzero(number >= 0)
            if len(chosen):
                hashes = row_hashes(records.take(pa.array(chosen)))
                place = [pa.array([value] * len(chosen)) for value in (group.key, group.group)]
                rows = pa.table([number[chosen], keys.take(pa.array(chosen)), *place, chosen, hashes], schema=_SUSPECT_ROWS)
                yield from blobs("rows", rows, number[chosen].astype(np.uint64) << np.uint64(32), partitions)

    def compare(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        rows = inputs["rows"]
        places = []
        for number in np.unique(rows.column("suspects").to_numpy()):
            mine = rows.filter(pa.array(rows.column("suspects").to_numpy() == number))
            objects = mine.column("object_key").combine_chunks().dictionary_encode()
            marked = redelivered(mine.column("hash").to_numpy(), numbers(objects.indices, 0), objects.dictionary.to_pylist())
            places.append(mine.filter(pa.array(marked)).select(["key", "group", "row"]))
        grouped = pa.concat_tables(places).group_by(["key", "group"]).aggregate([("row", "list")])
        return pa.table([grouped.column(name) for name in ("key", "group", "row_list")], schema=_POSITIONS)

    scanned = scan(spark, warehouse, groups, RECORDS_TABLE.schema, RECORDS_TABLE.schema.names, rows_of_suspects, BLOB_COLUMNS)
    marks: dict[tuple[str, int], np.ndarray[Any, np.dtype[np.bool_]]] = {}
    rows = {(one.key, one.group): one.rows for one in groups}
    for row in exchange([scanned], compare, _POSITIONS).toArrow().to_pylist():
        place = (row["key"], row["group"])
        marks.setdefault(place, np.zeros(rows[place], dtype=bool))[row["rows"]] = True
    packed = {place: np.packbits(bits).tobytes() for place, bits in marks.items()}
    return [replace(one, redelivered=packed.get((one.key, one.group))) for one in groups]


def _delivery(row: Mapping[str, Any]) -> str:
    """What objects of one delivery share: the flow log; in a format without times, where rows repeat, the stamp of the key too."""
    timed = any(f"${{{name}}}" in (row["log_format"] or "") for name in ("start", "end"))
    return str(row["flow_log_id"]) if timed else f"{row['flow_log_id']} {row['published_at']}"


def _survey(spark: SparkSession, warehouse: Warehouse, groups: list[RowGroup], logs: Mapping[str, Subscription]) -> pa.Table:
    names_interfaces = frozenset(name for name, log in logs.items() if log.names_interfaces)

    def kernel(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, records in scanned:
            yield from survey(records, names_interfaces).to_batches()

    return scan(spark, warehouse, groups, RECORDS_TABLE.schema, SURVEYED, kernel, SURVEY).toArrow()


def _clues(
    spark: SparkSession, warehouse: Warehouse, groups: list[RowGroup], vantage: Vantage, ports: PortRules, partitions: int
) -> pa.Table:
    def gather(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, records in scanned:
            batch = Batch.of(records)
            plain = clues(batch, vantage)
            yield from blobs("clues", plain, np.zeros(plain.num_rows, np.uint64), partitions)
            visitors, shaken = visits(batch, vantage, ports), handshakes(batch, vantage)
            yield from blobs("visits", visitors, visitors.column("end").to_numpy(), partitions)
            yield from blobs("handshakes", shaken, shaken.column("key").to_numpy(), partitions)

    def conclude(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        found = [inputs["clues"]] if "clues" in inputs else []
        found += [visited(inputs["visits"])] if "visits" in inputs else []
        found += [proven(inputs["handshakes"])] if "handshakes" in inputs else []
        return pa.concat_tables(found)

    rows = scan(spark, warehouse, groups, RECORDS_TABLE.schema, CLUED, gather, BLOB_COLUMNS)
    return exchange([rows], conclude, CLUES).toArrow()


def _carried(spark: SparkSession, warehouse: Warehouse, day: date) -> tuple[Carried, Hashes]:
    """What the day before hands on: nothing, if it is not there."""
    yesterday = day - timedelta(days=1)
    groups = row_groups(warehouse, CONNECTIONS_TABLE, yesterday)
    if not groups:
        return Carried(), np.zeros(0, np.uint64)

    def kernel(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, rows in scanned:
            yield from carries(rows, yesterday).to_batches()

    return received(scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, CARRIED_COLUMNS, kernel, CARRIES).toArrow())


def _work_out(
    spark: SparkSession, warehouse: Warehouse, day: date, groups: list[RowGroup], vantage: Vantage, whole: Whole, partitions: int
) -> pa.Table:
    """Connections, legs and tallies written as part files; rows of `_OUTCOME`."""

    def cut(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, records in scanned:
            prepared = prepare(records, vantage)
            yield from blobs("rows", prepared.observed, partition_hashes(prepared.observed), partitions)
            yield from blobs("tallies", prepared.tallies, np.zeros(prepared.tallies.num_rows, np.uint64), partitions)

    def write(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        done = work_out(inputs.get("rows", OBSERVED.empty_table()), whole)
        held, accounted = done.counted
        tallied = [inputs["tallies"], done.tallies] if "tallies" in inputs else [done.tallies]
        outcomes: list[dict[str, Any]] = [{"held": held, "accounted": accounted}]
        for table, rows in (
            (CONNECTIONS_TABLE, [done.connections]),
            (LEGS_TABLE, [done.legs]),
            (TALLIES_TABLE, [one.cast(TALLIES) for one in tallied]),
        ):
            writer = warehouse.writer(table, day)
            for some in rows:
                if some.num_rows:
                    writer.write(some)
            outcomes += [{"table": table.name, "part": asdict(part)} for part in writer.close()]
        outcomes.append({"records": sum(int(numbers(one.column("records"), 0).sum()) for one in tallied)})
        counts = done.connections.group_by(["basis", "state"]).aggregate([([], "count_all")]).to_pylist()
        outcomes += [{"basis": row["basis"], "state": row["state"], "connections": row["count_all"]} for row in counts]
        return pa.Table.from_pylist(outcomes, _OUTCOME)

    rows = scan(spark, warehouse, groups, RECORDS_TABLE.schema, READ, cut, BLOB_COLUMNS)
    return exchange([rows], write, _OUTCOME).toArrow()


def _reconcile(outcome: pa.Table, found: Survey) -> None:
    """Raise `ReconciliationError` unless every record is in the tallies once and every counted byte in a connection."""
    held, accounted, records = (int(numbers(outcome.column(name), 0).sum()) for name in ("held", "accounted", "records"))
    if records != found.rows:
        raise ReconciliationError(f"{found.rows:,} records were read, {records:,} accounted for; nothing was replaced")
    if held != accounted:
        raise ReconciliationError(f"connections hold {held:,} bytes, the account says {accounted:,}; nothing was replaced")
