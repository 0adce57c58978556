"""A policy's rules without Spark: connections as dicts through the kernels, as the passes of `compliance` do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flowlog_udfs.columns import joined
from flowlog_udfs.connections import CONNECTIONS
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.policy.findings import findings
from flowlog_udfs.policy.gathering import brought_together, subject_hashes
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.matching import Judge, matches
from flowlog_udfs.policy.model import FirstSeen, Policy
from flowlog_udfs.policy.segments import Segments
from flowlog_udfs.policy.spreading import initiator_hashes, spread_out, touches

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
_PLAIN = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in CONNECTIONS])
INSIDE = {"account_id": "123456789012", "vpc_id": "vpc-1", "subnet_id": "subnet-1", "interface_id": "eni-1"}
_numbers = iter(range(1, 1_000_000))


def connection(source: str, target: str, **known: Any) -> dict[str, Any]:
    """An established TCP connection; ends are `address` or `address:port`, and own if private."""
    (from_addr, from_port), (to_addr, to_port) = _end(source, 40_000), _end(target, 443)
    row: dict[str, Any] = {
        "initiator_addr": from_addr,
        "initiator_port": from_port,
        "responder_addr": to_addr,
        "responder_port": to_port,
        "protocol": 6,
        "initiator_kind": "host",
        "bytes_sent": 1_000,
        "bytes_received": 2_000,
        "first_start": NOON,
        "last_end": NOON,
        "action": "ACCEPT",
        "verdict_by": "receiver",
        "state": "established",
        "basis": "syn+syn-ack",
        "confidence": 1.0,
        "connection_id": next(_numbers),
    }
    for end, address in (("initiator", from_addr), ("responder", to_addr)):
        own = address.startswith("10.")
        row[f"{end}_scope"] = "own-network" if own else "internet"
        row |= {f"{end}_{name}": value for name, value in INSIDE.items()} if own else {}
    return row | known


def _end(text: str, port: int) -> tuple[str, int]:
    address, _, given = text.partition(":")
    return address, int(given or port)


def refused(source: str, target: str, **known: Any) -> dict[str, Any]:
    """A connection that a rule of ours refused."""
    return connection(source, target, action="REJECT", state="rejected", bytes_sent=0, bytes_received=0, **known)


def policy_of(folder: Path, text: str) -> Policy:
    """A policy from the text of its file."""
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def connections_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of table `connections`."""
    return pa.Table.from_pylist([{name: row.get(name) for name in _PLAIN.names} for row in rows], _PLAIN).cast(CONNECTIONS)


def judged(
    connections: Sequence[Mapping[str, Any]],
    policy: Policy | None = None,
    inventory: Inventory | None = None,
    batches: int = 1,
    partitions: int = 1,
    nats: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The findings of rules about connections; `batches` and `partitions` say how these are cut, `nats` is the judge's."""
    policy = policy or load_policy(None)
    judge = Judge(policy, Segments.of(policy.segments, inventory), DAY, frozenset(nats))
    table = connections_of(connections)
    cuts = [table.take(pa.array(np.arange(n, table.num_rows, batches))) for n in range(batches)]
    found = []
    for kernel, hashes, conclude in (
        (matches, subject_hashes, brought_together),
        (touches, initiator_hashes, lambda rows: spread_out(rows, judge)),
    ):
        gathered = joined([kernel(cut, judge) for cut in cuts])
        target = hashes(gathered) % np.uint64(partitions)
        found += [row for n in range(partitions) for row in conclude(gathered.filter(pa.array(target == n))).to_pylist()]
    peers = {number for number, _ in judge.numbered(FirstSeen)}
    found = [row for row in found if row["rule"] not in peers]
    return findings(found, policy, DAY, {"vpc-1": "us-east-1"})


def told(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Rule and subject of each finding."""
    return [(one["rule"], one["subject"]) for one in found]
