"""Tallies to tables `subnet_bytes` and `reconciliation`: how many bytes each subnet moved, and where every other byte went.

`out` is what a subnet's interfaces sent, `in` what they received: traffic inside one subnet is once in each. Every record is in one bucket
of each scope, so that the buckets add up to what was read, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.columns import codes, equals, is_among, numbers
from flowlog_udfs.errors import ReconciliationError
from flowlog_udfs.interfaces import PLACE
from flowlog_udfs.tables import Table
from flowlog_udfs.tallies import BUCKETS, COUNTED, NO_ENDS

_TEXT = pa.dictionary(pa.int32(), pa.string())
_KEYS = ("hour", "account_id", "region", "vpc_id", "az_id", "subnet_id", "direction", "initiated_by", "peer_scope", "action")
SUBNET_BYTES = pa.schema(
    [
        ("hour", pa.timestamp("us", "UTC")),
        *((name, _TEXT) for name in _KEYS[1:]),
        *((name, pa.int64()) for name in ("bytes", "packets", "records", "connections_started")),
        ("relayed_bytes", pa.int64()),  # at a balancer's target: the front has counted the same bytes
    ]
)
SUBNET_BYTES_TABLE = Table("subnet_bytes", SUBNET_BYTES, ("hour", *PLACE))
RECONCILIATION = pa.schema([("scope", pa.string()), ("measure", pa.string()), ("bucket", pa.string()), ("value", pa.int64())])
RECONCILIATION_TABLE = Table("reconciliation", RECONCILIATION)

_NOT_USED = {"subnet": ("other_end", "no_ends"), "connection": ("no_side", "no_subnet")}
_SUMS = ("bytes", "packets", "records", "connections_started", "relayed_bytes")


def subnet_bytes(tallies: pa.Table, relayed: npt.NDArray[np.int64]) -> pa.Table:
    """Rows of `SUBNET_BYTES`; `relayed` are the ids, in order, of connections to targets of a balancer (see `relayed`)."""
    counted = tallies.filter(pa.array(equals(tallies.column("subnet_bucket"), BUCKETS[COUNTED])))
    passed_on = is_among(numbers(counted.column("connection_id"), 0), relayed)
    counted = counted.append_column("relayed_bytes", pa.array(np.where(passed_on, numbers(counted.column("bytes"), 0), 0)))
    plain = pa.table(
        {name: counted.column(name).cast(pa.string()) if name in _KEYS[1:] else counted.column(name) for name in (*_KEYS, *_SUMS)}
    )
    grouped = plain.group_by(list(_KEYS)).aggregate([(name, "sum") for name in _SUMS])
    grouped = grouped.sort_by([(name, "ascending") for name in _KEYS])
    columns = {name: grouped.column(name) for name in _KEYS} | {name: grouped.column(f"{name}_sum") for name in _SUMS}
    columns["hour"] = pc.multiply(columns["hour"], 1_000_000).cast(SUBNET_BYTES.field("hour").type)
    return pa.table([columns[field.name].cast(field.type) for field in SUBNET_BYTES], schema=SUBNET_BYTES)


def reconciliation(tallies: pa.Table, records: int, octets: int) -> pa.Table:
    """Rows of `RECONCILIATION`; raises `ReconciliationError` unless the buckets of each scope add up to the records and bytes read."""
    rows = []
    for scope in ("subnet", "connection"):
        bucket = tallies.column(f"{scope}_bucket")
        sums = {}
        for name in BUCKETS:
            chosen = equals(bucket, name)
            sums[name] = {measure: int(numbers(tallies.column(measure), 0)[chosen].sum()) for measure in ("bytes", "records")}
        for measure, raw in (("bytes", octets), ("records", records)):
            found = sum(values[measure] for values in sums.values())
            if found != raw:
                raise ReconciliationError(f"scope {scope}: {raw:,} {measure} were read, the buckets hold {found:,}; nothing was replaced")
            values = {name: sums[name][measure] for name in BUCKETS if name not in _NOT_USED[scope]}
            if not values.get(BUCKETS[NO_ENDS], 1):
                del values[BUCKETS[NO_ENDS]]
            rows += [{"scope": scope, "measure": measure, "bucket": name, "value": value} for name, value in {"raw": raw, **values}.items()]
    return pa.Table.from_pylist(rows, RECONCILIATION)


def check_connections(tallies: pa.Table, held: int) -> None:
    """Raise `ReconciliationError` unless the connections hold just the bytes that the account says they do."""
    counted = int(numbers(tallies.column("bytes"), 0)[equals(tallies.column("connection_bucket"), BUCKETS[COUNTED])].sum())
    if counted != held:
        raise ReconciliationError(f"connections hold {held:,} bytes, the account says {counted:,}; nothing was replaced")


def relayed(connections: Sequence[pa.Table], balancers: frozenset[str]) -> npt.NDArray[np.int64]:
    """Ids, in order, of connections that are the target leg of a balancer; `connections` have `connection_id, nat_id, nat_leg`."""
    found = [np.zeros(0, np.int64)]
    for table in connections:
        name, names = codes(table.column("nat_id"))
        by_balancer = np.array([*(word in balancers for word in names.to_pylist()), False], dtype=bool)[name]
        inside = equals(table.column("nat_leg"), "inside") & by_balancer
        found.append(numbers(table.column("connection_id"), 0)[inside])
    return np.unique(np.concatenate(found))
