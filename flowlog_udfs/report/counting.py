"""What a report counts over all connections and NAT mappings of a day: talkers, evidence, refusals, who is behind each NAT.

In: batches of tables. Between: sums of a batch, which a shuffle brings together. Out: the few rows that a person looks at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.columns import Groups, codes, equals, mixed, numbers, ranked, text_hashes
from flowlog_udfs.sorting import sort_by

SHOWN = 50
"""Rows of each list that a report shows."""
_TALKER = ("initiator_addr", "initiator_vpc_id", "initiator_subnet_id", "initiator_instance_id", "initiator_kind", "initiator_scope")
TALKERS = pa.schema(
    [
        *((name, pa.string()) for name in _TALKER),
        *((name, pa.int64()) for name in ("connections", "bytes_sent", "bytes_received", "rejected")),
    ]
)
_EVIDENCE = ("basis", "state", "initiator_scope", "reject_reason")
EVIDENCE = pa.schema([*((name, pa.string()) for name in _EVIDENCE), ("connections", pa.int64()), ("confidence", pa.float64())])
"""Connections and the sum of their confidences by what is known of them."""
READ = (*_TALKER, "bytes_sent", "bytes_received", *_EVIDENCE, "confidence")
"""The columns of `connections` that are needed."""
REFUSED = pa.schema(
    [("initiator_addr", pa.string()), ("scope", pa.string()), *((name, pa.int64()) for name in ("connections", "hosts", "ports"))]
)
_BEHIND = ("nat_kind", "nat_addr", "nat_interface_id", "inside_addr")
_TALKS = (*_BEHIND, "remote_addr")
TALKS = pa.schema(
    [*((name, pa.string()) for name in _TALKS), *((name, pa.int64()) for name in ("bytes_out", "bytes_in", "connections", "unpaired"))]
)
BEHIND = pa.schema(
    [
        *((name, pa.string()) for name in _BEHIND),
        *((name, pa.int64()) for name in ("bytes_out", "bytes_in", "connections", "unpaired", "remotes")),
    ]
)
_LEG = (*_TALKS, "inside_port", "remote_port", "protocol", "first_start")
TALK_COLUMNS = (*_LEG, "nat_port", "bytes_out", "bytes_in")


def _summed(table: pa.Table, keys: Sequence[str], out: pa.Schema) -> pa.Table:
    """Rows with equal `keys` added up; the columns of `out` beside the keys are sums."""
    sums = [name for name in out.names if name not in keys]
    plain = pa.table({name: table.column(name).cast(pa.string()) if name in keys else table.column(name) for name in (*keys, *sums)})
    grouped = plain.group_by(list(keys)).aggregate([(name, "sum") for name in sums])
    return pa.table([grouped.column(name if name in keys else f"{name}_sum") for name in out.names], names=out.names).cast(out)


def talkers(connections: pa.Table) -> pa.Table:
    """Rows of `TALKERS` for a batch of connections whose initiator is known."""
    mine = connections.filter(pa.array(~equals(connections.column("basis"), "none")))
    mine = mine.select([*_TALKER, "bytes_sent", "bytes_received", "state"])
    mine = mine.append_column("rejected", pa.array(equals(mine.column("state"), "rejected").astype(np.int64)))
    return _summed(mine.append_column("connections", pa.array(np.ones(mine.num_rows, np.int64))), _TALKER, TALKERS)


def top_talkers(pieces: pa.Table) -> pa.Table:
    """The rows of `TALKERS` that moved most, of any number added up."""
    whole = _summed(pieces, _TALKER, TALKERS)
    moved = np.asarray(pc.add(whole.column("bytes_sent"), whole.column("bytes_received"))).astype(np.int64)
    return whole.take(pa.array(sort_by(-moved, *(ranked(*codes(whole.column(name))) for name in _TALKER))[:SHOWN]))


def evidence(connections: pa.Table) -> pa.Table:
    """Rows of `EVIDENCE` for a batch of connections."""
    mine = connections.select([*_EVIDENCE, "confidence"])
    return _summed(mine.append_column("connections", pa.array(np.ones(mine.num_rows, np.int64))), _EVIDENCE, EVIDENCE)


def all_evidence(pieces: pa.Table) -> pa.Table:
    """Rows of `EVIDENCE` added up."""
    return _summed(pieces, _EVIDENCE, EVIDENCE)


def most_refused(touched: pa.Table) -> pa.Table:
    """The rows of `REFUSED` with most refused connections, from all rows of `spreading.TOUCHED` of some initiators."""
    mine = touched.filter(pc.greater(touched.column("refused"), 0))
    (who, names), (host, _), (home, _) = (codes(mine.column(name)) for name in ("initiator_addr", "responder_addr", "home"))
    ports = numbers(mine.column("protocol"), -1) * 65_536 + numbers(mine.column("responder_port"), -1)
    scope = ranked(*codes(mine.column("initiator_scope")))
    # Formats differ in what they tell of an address: of several scopes the first by name, and none only where there is no other.
    order = sort_by(home, who, scope < 0, scope)
    groups = Groups.of(home[order], who[order])
    distinct = []
    for values in (host, ports):
        by_value = sort_by(groups.ids, values[order])
        starts = Groups.of(groups.ids[by_value], values[order][by_value]).starts
        distinct.append(np.bincount(groups.ids[by_value][starts], minlength=len(groups)))
    first = pa.array(order[groups.starts])
    columns = [
        names.take(pa.array(who).take(first)).cast(pa.string()),
        mine.column("initiator_scope").cast(pa.string()).take(first).combine_chunks(),
        pa.array(groups.sum(numbers(mine.column("refused"), 0)[order])),
        *map(pa.array, distinct),
    ]
    whole = pa.table([column.cast(field.type) for column, field in zip(columns, REFUSED, strict=True)], schema=REFUSED)
    return top_refused(whole)


def top_refused(rows: pa.Table) -> pa.Table:
    """The rows of `REFUSED` with most connections."""
    return rows.take(pa.array(sort_by(-numbers(rows.column("connections"), 0), ranked(*codes(rows.column("initiator_addr"))))[:SHOWN]))


def talks(mappings: pa.Table) -> pa.Table:
    """Rows of `TALKS` for a batch of `nat_mappings`: what passed between an inside end and a remote one; a leg with candidates once."""
    unpaired = np.asarray(mappings.column("nat_port").is_null()).astype(np.int64)
    legs = pa.table({name: mappings.column(name).cast(pa.string()) if name in _TALKS else mappings.column(name) for name in _LEG})
    for name, values in (
        ("bytes_out", mappings.column("bytes_out")),
        ("bytes_in", mappings.column("bytes_in")),
        ("unpaired", pa.array(unpaired)),
    ):
        legs = legs.append_column(name, values)
    once = legs.group_by(list(_LEG)).aggregate([(name, "min") for name in ("bytes_out", "bytes_in", "unpaired")])
    once = once.rename_columns([name.removesuffix("_min") for name in once.column_names])
    return _summed(once.append_column("connections", pa.array(np.ones(once.num_rows, np.int64))), _TALKS, TALKS)


def translator_hashes(rows: pa.Table) -> npt.NDArray[np.uint64]:
    """What rows of one inside end behind one translator share."""
    hashed = []
    for name in _BEHIND:
        code, words = codes(rows.column(name))
        hashed.append(np.append(text_hashes(words), np.uint64(0))[code].view(np.int64))
    return mixed(*hashed)


def behind(pieces: pa.Table) -> pa.Table:
    """Rows of `BEHIND` from all rows of `TALKS` of some inside ends."""
    whole = _summed(pieces, _TALKS, TALKS)
    return _summed(whole.append_column("remotes", pa.array(np.ones(whole.num_rows, np.int64))), _BEHIND, BEHIND)
