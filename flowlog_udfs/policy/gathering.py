"""What rules matched, brought together: one row for each subject of a rule, with its counts and a few examples.

In: rows of `MATCHED`, in any order, all of a subject together. Out: rows of `FOUND`, from which findings are made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Groups, codes, mixed, numbers, ranked, text_hashes
from flowlog_udfs.sorting import sort_by

EXAMPLES = 5

_TEXT = pa.dictionary(pa.int32(), pa.string())
_UTC = pa.timestamp("us", "UTC")
EXAMPLE_COLUMNS = (
    ("initiator_addr", pa.string()),
    ("initiator_port", pa.int32()),
    ("responder_addr", pa.string()),
    ("responder_port", pa.int32()),
    ("protocol", pa.int32()),
    ("first_start", _UTC),
    ("bytes_sent", pa.int64()),
    ("bytes_received", pa.int64()),
    ("state", pa.string()),
    ("basis", pa.string()),
)
EXAMPLE = pa.struct(list(EXAMPLE_COLUMNS))
_IDENTITY = (("rule", pa.int32()), ("waiver", pa.int32()), ("account_id", _TEXT), ("vpc_id", _TEXT), ("subject", _TEXT))
_TOTALS = (
    ("connections", pa.int64()),
    ("sent", pa.int64()),
    ("received", pa.int64()),
    ("first_seen", pa.int64()),
    ("last_seen", pa.int64()),
)
MATCHED = pa.schema(
    [
        *_IDENTITY,
        ("peer", _TEXT),
        ("nat_id", _TEXT),
        ("nat_leg", _TEXT),
        ("ahead", pa.int32()),
        *_TOTALS,  # times in microseconds, -1 without
        *((name, _TEXT if kind == pa.string() else pa.int64() if kind == _UTC else kind) for name, kind in EXAMPLE_COLUMNS),
    ]
)
FOUND = pa.schema(
    [
        *((name, pa.string() if kind == _TEXT else kind) for name, kind in _IDENTITY),
        ("vpc_ids", pa.list_(pa.string())),
        ("nat_id", pa.string()),
        ("nat_leg", pa.string()),
        ("ahead", pa.int32()),
        ("peers", pa.int64()),
        *_TOTALS,
        ("examples", pa.list_(EXAMPLE)),
    ]
)
"""What comes before a finding: counts of a subject of a rule. `waiver` is the place of the exception in the policy, -1 for none.

`ahead` is that of one that would cover some of it, and is not in force yet.
"""


def subject_hashes(matched: pa.Table) -> npt.NDArray[np.uint64]:
    """What rows of one finding share."""
    subject, words = codes(matched.column("subject"))
    return mixed(numbers(matched.column("rule"), -1), text_hashes(words)[subject].view(np.int64))


def brought_together(matched: pa.Table) -> pa.Table:
    """Rows of `FOUND` from all rows of `MATCHED` of some findings, in any order; examples are the earliest of different peers."""
    coded = {name: codes(matched.column(name)) for name in ("account_id", "vpc_id", "subject", "peer", "nat_id", "nat_leg")}
    keys = [numbers(matched.column(name), -1) for name in ("rule", "waiver")] + [
        ranked(*coded[name]) for name in ("account_id", "vpc_id", "subject")
    ]
    start = numbers(matched.column("first_seen"), -1)
    peer, ports = ranked(*coded["peer"]), [numbers(matched.column(name), -1) for name in ("initiator_port", "responder_port")]
    order = sort_by(*keys, peer, start, *ports)
    rows = matched.take(pa.array(order))
    groups, peers = Groups.of(*(key[order] for key in keys)), Groups.of(*(key[order] for key in keys), peer[order])
    plain = {field.name: rows.column(field.name).cast(pa.string()) if field.type == _TEXT else rows.column(field.name) for field in MATCHED}
    starts = pa.array(groups.starts)
    earliest = peers.starts[sort_by(groups.ids[peers.starts], start[order][peers.starts], peer[order][peers.starts])]
    of_group = Groups.of(groups.ids[earliest])
    shown = earliest[np.arange(of_group.rows) - of_group.spread(of_group.starts) < EXAMPLES]
    offsets = np.concatenate(([0], np.cumsum(np.minimum(of_group.sizes, EXAMPLES))))
    few = [plain[name].take(pa.array(shown)) for name, _ in EXAMPLE_COLUMNS]
    examples = pa.StructArray.from_arrays(
        [_time(one) if kind == _UTC else cast(one, kind) for one, (_, kind) in zip(few, EXAMPLE_COLUMNS, strict=True)], fields=list(EXAMPLE)
    )
    vpcs = plain["vpc_id"].take(starts).to_pylist()
    columns = {
        **{name: plain[name].take(starts) for name, _ in _IDENTITY},
        "vpc_ids": pa.array([[vpc] if vpc else [] for vpc in vpcs], pa.list_(pa.string())),
        **{name: plain[name].take(starts) for name in ("nat_id", "nat_leg")},
        "ahead": groups.max(numbers(rows.column("ahead"), -1)),
        "peers": of_group.sizes,
        **{name: groups.sum(numbers(rows.column(name), 0)) for name in ("connections", "sent", "received")},
        "first_seen": groups.min(np.where(start[order] < 0, np.iinfo(np.int64).max, start[order])) if len(groups) else start,
        "last_seen": groups.max(numbers(rows.column("last_seen"), -1)),
        "examples": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), examples),
    }
    return pa.table([cast(columns[field.name], field.type) for field in FOUND], schema=FOUND)


def _time(micros: pa.ChunkedArray | pa.Array) -> pa.Array:
    values = numbers(micros, -1)
    return pa.array(np.maximum(values, 0), mask=values < 0).cast(_UTC)


def cast(values: npt.NDArray[np.generic] | pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column as one array of a type; text is encoded where the type is a dictionary's."""
    array = (
        pa.array(values) if isinstance(values, np.ndarray) else values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    )
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(array.type):
        return array.dictionary_encode()
    return array if array.type == kind else array.cast(kind)
