"""Attributed episodes to rows of table `connections`: who opened what to whom, what was sent each way, and how it went.

Bytes and packets are those of the chosen observation points; the verdict is that of the observer nearest the receiver; flags count from
wherever they were seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.attribution import Attributed
from flowlog_udfs.columns import Flags, Groups, Ints, texts
from flowlog_udfs.initiators import BASES, HI, NONE, is_tunnel
from flowlog_udfs.observations import RECEIVER, SENDER
from flowlog_udfs.observed import Rows
from flowlog_udfs.outcomes import ACTIONS, CLOSED_BY, STATES, VERDICTS_BY, outcomes
from flowlog_udfs.tcp_flags import closes

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("us", "UTC")

OWNER_COLUMNS = ("account_id", "vpc_id", "subnet_id", "instance_id", "interface_id")
"""What is known of an end that an interface of ours owns."""

_COUNTS = ("bytes_sent", "bytes_received", "packets_sent", "packets_received")
CONNECTIONS = pa.schema(
    [
        ("initiator_addr", _TEXT),
        ("initiator_port", pa.int32()),
        ("responder_addr", _TEXT),
        ("responder_port", pa.int32()),
        ("protocol", pa.int32()),
        ("episode", pa.int32()),
        *((f"{end}_{name}", _TEXT) for end in ("initiator", "responder") for name in OWNER_COLUMNS),
        ("initiator_kind", _TEXT),
        *((name, pa.int64()) for name in _COUNTS),
        *((f"rejected_{name}", pa.int64()) for name in _COUNTS),
        ("late_rejects", pa.int64()),
        ("first_start", pa.timestamp("us", "UTC")),
        ("last_end", pa.timestamp("us", "UTC")),
        ("records", pa.int64()),
        ("observation_points", pa.int32()),
        ("interfaces", pa.list_(pa.string())),
        ("action", _TEXT),
        ("verdict_by", _TEXT),
        ("state", _TEXT),
        ("attempts", pa.int64()),
        ("handshakes", pa.int64()),
        ("closed_by", _TEXT),
        ("basis", _TEXT),
        ("confidence", pa.float64()),
        ("nat_id", pa.string()),
        ("nat_leg", _TEXT),
        ("traffic_class", _TEXT),
        ("network", _TEXT),
        ("is_open", pa.bool_()),
        ("shortfall_packets", pa.int64()),
    ]
)


def connections(done: Attributed) -> pa.Table:
    """One row of `CONNECTIONS` per episode; the owners of the ends are null until `with_owners` adds them from `…_interface_id`."""
    rows, groups, answers = done.rows, done.groups, done.answers
    first = groups.starts
    flip = answers.initiator == HI
    # A row was sent either by the initiator or by the responder; where nobody is known to have initiated, `lo` stands first.
    sent = rows.forward ^ groups.spread(flip)
    came_to = outcomes(rows, groups, sent, answers, done.evidence)
    lo_port, hi_port, protocol = rows.lo_port[first], rows.hi_port[first], rows.protocol[first]
    tunnel = is_tunnel(protocol, lo_port, hi_port)
    own = rows.only_evidence == False  # noqa: E712 - an array
    views = Groups.of(groups.ids[own], rows.observer[own])
    per_episode = np.bincount(groups.ids[own][views.starts], minlength=len(groups))
    columns = {
        "initiator_addr": texts(np.where(flip, rows.hi[first], rows.lo[first]), rows.addresses),
        "initiator_port": np.where(flip, hi_port, lo_port),
        "responder_addr": texts(np.where(flip, rows.lo[first], rows.hi[first]), rows.addresses),
        "responder_port": np.where(flip, lo_port, hi_port),
        "protocol": protocol,
        "episode": rows.episode[first],
        "initiator_interface_id": texts(_owner(rows, groups, sent), rows.observers),
        "responder_interface_id": texts(_owner(rows, groups, ~sent), rows.observers),
        **_volumes(done, sent),
        "late_rejects": came_to.late_rejects,
        "first_start": _time(groups.min(np.where(done.counts, rows.start, np.iinfo(np.int64).max))),
        "last_end": _time(groups.max(np.where(done.counts, rows.end, 0))),
        "records": groups.sum(own),
        "observation_points": per_episode,
        "interfaces": _lists(per_episode, rows.observer[own][views.starts], rows.observers),
        "action": _words(came_to.action, ACTIONS),
        "verdict_by": _words(came_to.verdict_by, VERDICTS_BY),
        "state": _words(came_to.state, STATES),
        "attempts": came_to.attempts,
        "handshakes": came_to.handshakes,
        "closed_by": _words(came_to.closed_by, CLOSED_BY),
        "basis": _words(answers.basis, BASES),
        "confidence": answers.confidence,
        "traffic_class": _words(np.where(tunnel, 0, -1), ("tunnel",)),
        "network": texts(rows.network[first], rows.networks),
        "is_open": ~groups.any(closes(rows.flags)) & (answers.basis != NONE),
        "shortfall_packets": done.shortfall,
    }
    arrays = [
        pa.nulls(len(groups), column.type) if column.name not in columns else _cast(columns[column.name], column.type)
        for column in CONNECTIONS
    ]
    return pa.table(arrays, schema=CONNECTIONS)


def _volumes(done: Attributed, sent: Flags) -> dict[str, Ints]:
    """Bytes and packets by direction and verdict. What a direction's receiver refused is taken out of what its sender saw leave."""
    rows, groups, volumes = done.rows, done.groups, {}
    at_receiver = (rows.role == RECEIVER) & ~rows.only_evidence
    for name, amount in (("bytes", rows.octets), ("packets", rows.packets)):
        for way, direction in ((sent, "sent"), (~sent, "received")):
            counted = done.counts & way
            accepted = groups.sum(np.where(counted & ~rows.rejected, amount, 0))
            rejected = groups.sum(np.where(counted & rows.rejected, amount, 0))
            refused = groups.sum(np.where(at_receiver & ~done.counts & way & rows.rejected, amount, 0))
            moved = np.minimum(accepted, refused)
            volumes[f"{name}_{direction}"] = accepted - moved
            volumes[f"rejected_{name}_{direction}"] = rejected + moved
    return volumes


def _owner(rows: Rows, groups: Groups, sent: Flags) -> Ints:
    """The interface that owns the end which sent the `sent` rows; -1 where none of ours does."""
    owns = (sent & (rows.role == SENDER)) | (~sent & (rows.role == RECEIVER))
    none = len(rows.observers)
    owner = groups.min(np.where(owns, rows.observer, none))
    return np.where(owner == none, -1, owner)


def _words(chosen: Ints, words: tuple[str, ...]) -> pa.Array:
    return texts(chosen, pa.array(words))


def _time(seconds: Ints) -> pa.Array:
    return pa.array(seconds * 1_000_000).cast(_TIME)


def _lists(sizes: Ints, members: Ints, words: pa.Array) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), words.take(pa.array(members)).cast(pa.string()))


def _cast(values: npt.NDArray[np.generic] | pa.Array, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
