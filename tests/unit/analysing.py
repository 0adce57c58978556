"""A day's analytics without Spark: the passes of `flowlog_udfs.analysis` one after the other, on records as dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.analysis import REDELIVERED, Whole, clued, knowledge, midnight_of, partition_hashes, prepare, scopes_of, work_out
from flowlog_udfs.attribution import Carried
from flowlog_udfs.carried import carries, received
from flowlog_udfs.clues import READ as CLUED
from flowlog_udfs.clues import Batch, clues, handshakes, proven, visited, visits
from flowlog_udfs.columns import joined, numbers
from flowlog_udfs.config import AttributionConfig
from flowlog_udfs.endpoints import READ
from flowlog_udfs.interfaces import merge
from flowlog_udfs.inventory import read_inventory
from flowlog_udfs.legs import Gateways
from flowlog_udfs.nat import map_legs
from flowlog_udfs.records import RECORDS
from flowlog_udfs.redelivery import redelivered, row_hashes
from flowlog_udfs.services import PortRules, default_services
from flowlog_udfs.sides import Vantage
from flowlog_udfs.subnets import reconciliation, relayed, subnet_bytes
from flowlog_udfs.subscriptions import subscriptions
from flowlog_udfs.survey import SURVEY, SURVEYED, survey
from flowlog_udfs.tallies import merged
from flowlog_udfs.translation import marked

_PLAIN = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in RECORDS])


@dataclass(frozen=True)
class Day:
    """The tables of a worked-out day, as Arrow tables and as rows."""

    connections: pa.Table
    nat_mappings: pa.Table
    subnet_bytes: pa.Table
    reconciliation: list[dict[str, Any]]
    counted: list[tuple[int, int]] = field(default_factory=list)

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All tables by name, rows as dicts."""
        return {
            "connections": self.connections.to_pylist(),
            "nat_mappings": self.nat_mappings.to_pylist(),
            "subnet_bytes": self.subnet_bytes.to_pylist(),
            "reconciliation": self.reconciliation,
        }


def table_of(records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of table `records`; columns that a record does not have are null."""
    rows = [{name: record.get(name) for name in _PLAIN.names} for record in records]
    return pa.Table.from_pylist(rows, _PLAIN).cast(RECORDS)


def analyse(
    records: Sequence[Mapping[str, Any]],
    formats: Mapping[str, Sequence[str]],
    day: date,
    *,
    inventory: Any = None,
    yesterday: pa.Table | None = None,
    links: Sequence[Sequence[str]] = (),
    services: tuple[Any, ...] | None = None,
    ranges: Any = None,
    partitions: int = 1,
    batches: int = 1,
) -> Day:
    """Work out a day; `batches` and `partitions` say how its records are cut."""
    listed = read_inventory(inventory, "inventory") if inventory is not None else None
    table = table_of(records)
    owners = [(*_owner(str(record.get("object_key") or "")), record) for record in records]
    objects = [
        {
            "flow_log_id": record["flow_log_id"],
            "account_id": account or record.get("account_id") or "unknown",
            "region": region or record.get("region") or "",
            "log_format": " ".join(f"${{{name}}}" for name in formats[record["flow_log_id"]]),
        }
        for account, region, record in owners
    ]
    logs = subscriptions(objects, listed)
    names = frozenset(name for name, log in logs.items() if log.names_interfaces)
    marked_table = table.append_column(REDELIVERED, pa.array(_redelivered(table)))
    cuts = [marked_table.take(pa.array(np.arange(n, table.num_rows, batches))) for n in range(batches)]
    surveyed = pa.concat_tables([survey(cut.select(SURVEYED), names) for cut in cuts] or [SURVEY.empty_table()])
    found = merge(surveyed, logs, midnight_of(day), listed, links)
    vantage = Vantage.of(found, logs, scopes_of(found, listed, ranges), listed)
    ports = PortRules.build(services if services is not None else default_services())
    looked_at = [Batch.of(cut.select(CLUED)) for cut in cuts]
    clue = pa.concat_tables([clues(one, vantage) for one in looked_at])
    clue = pa.concat_tables(
        [
            clue,
            visited(pa.concat_tables([visits(one, vantage, ports) for one in looked_at])),
            proven(pa.concat_tables([handshakes(one, vantage) for one in looked_at])),
        ]
    )
    hashes = clued(clue, found.interfaces)
    no_evidence = (Carried(), np.zeros(0, np.uint64))
    evidence = received(carries(yesterday, day - timedelta(days=1))) if yesterday is not None else no_evidence
    known = knowledge(vantage, day, ports, hashes, evidence, AttributionConfig())
    whole = Whole(known, Gateways.of(listed, found.interfaces))
    prepared = [prepare(cut.select([*READ, REDELIVERED]), vantage) for cut in cuts]
    observed = joined([one.observed for one in prepared])
    target = partition_hashes(observed) % np.uint64(partitions)
    outputs = [work_out(observed.filter(pa.array(target == n)), whole) for n in range(partitions)]
    legs = joined([one.legs for one in outputs])
    mappings, marks = map_legs(legs)
    connections = joined([one.connections for one in outputs])
    connections = marked(connections, marks)
    tallies = merged([*(one.tallies for one in prepared), *(one.tallies for one in outputs)])
    balancers = mappings.filter(pc.equal(mappings.column("nat_kind"), "load_balancer")).column("nat_id").to_pylist()
    totals = subnet_bytes(tallies, relayed([connections], frozenset(balancers)))
    account = reconciliation(tallies, found.rows, found.bytes)
    return Day(connections, mappings, totals, account.to_pylist(), [one.counted for one in outputs])


def _redelivered(table: pa.Table) -> np.ndarray:
    objects = table.column("object_key").combine_chunks()
    code = numbers(objects.indices, 0)
    result = np.zeros(table.num_rows, dtype=bool)
    logs = np.array(table.column("flow_log_id").to_pylist())
    hashes = row_hashes(table)
    for log in set(logs.tolist()):
        rows = np.flatnonzero(logs == log)
        result[rows] = redelivered(hashes[rows], code[rows], objects.dictionary.to_pylist())
    return result


def _owner(key: str) -> tuple[str | None, str | None]:
    parts = key.rsplit("/", 1)[-1].split("_")
    return (parts[0], parts[2]) if len(parts) >= 4 and parts[1] == "vpcflowlogs" else (None, None)
