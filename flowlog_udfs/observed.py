"""Observed rows: flow log records with their ends and their observer, as the analytics kernels exchange and sort them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.addresses import packed
from flowlog_udfs.columns import Flags, Groups, Ints, codes, mixed, numbers, shared_codes
from flowlog_udfs.sorting import sort_by

SENDER, RECEIVER, UNKNOWN_SIDE, TRANSIT = range(4)
"""What an interface is to a row: it belongs to the sending end, to the receiving end, to one of them, or to neither."""

ACCEPTED, REJECTED, NO_ACTION = range(3)

_TEXT = pa.dictionary(pa.int32(), pa.string())
OBSERVED = pa.schema(
    [
        ("network", _TEXT),
        ("lo_addr", _TEXT),
        ("lo_port", pa.int32()),
        ("hi_addr", _TEXT),
        ("hi_port", pa.int32()),
        ("protocol", pa.int32()),  # -1 without
        ("lo_end", pa.uint64()),  # hash of network, address and port
        ("hi_end", pa.uint64()),
        ("forward", pa.bool_()),  # whether `lo` sent these packets
        ("observer", _TEXT),  # the interface, or the regional NAT gateway
        ("flow_log", pa.int32()),  # by rank
        ("side", pa.int8()),  # the observer's own end: `SENDER`, `RECEIVER`, `UNKNOWN_SIDE`
        ("transit", pa.bool_()),  # the end on that side is not its own
        ("shown", _TEXT),  # the address that stands in the log for the end on the observer's side, where that is another
        ("bare", pa.bool_()),  # a format without packet-level addresses: that end may hide behind the observer's address
        ("subnet", _TEXT),  # found by address, where the interface's own subnet is unknown
        ("scope", pa.int8()),  # of the peer, a place in `peers.PEER_SCOPES`
        ("packets", pa.int64()),
        ("bytes", pa.int64()),
        ("start", pa.int64()),  # 0 in a format without times
        ("end", pa.int64()),
        ("action", pa.int8()),
        ("flags", pa.int32()),  # -1 without
        ("encryption", pa.int8()),  # field encryption-status, -1 without
        ("reject_reason", _TEXT),
        ("duplicate", pa.bool_()),  # an overlapping subscription's row: its flags count, its bytes do not
    ]
)


def end_hashes(network: Ints, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], port: Ints) -> npt.NDArray[np.uint64]:
    """What identifies an end on every machine and every day: network (as a hash of its name), address, port."""
    return mixed(network, high, low, port)


@dataclass(frozen=True)
class Rows:
    """Observed rows as arrays. `key` numbers the five-tuples, `episode` the connections of each from 1; `lo`, `hi` and `shown` are places
    in `addresses`, `observer` and `subnet` in lists of their own, in which observers stand in the order of their names.
    """

    key: Ints
    episode: Ints
    lo_end: npt.NDArray[np.uint64]
    hi_end: npt.NDArray[np.uint64]
    lo: Ints
    lo_port: Ints
    hi: Ints
    hi_port: Ints
    protocol: Ints
    forward: Flags
    observer: Ints
    flow_log: Ints
    side: Ints
    transit: Flags
    shown: Ints
    bare: Flags
    subnet: Ints
    scope: Ints
    packets: Ints
    octets: Ints
    start: Ints
    end: Ints
    action: Ints
    flags: Ints
    encryption: Ints
    reason: Ints
    duplicate: Flags
    network: Ints
    networks: pa.Array
    addresses: pa.Array
    observers: pa.Array
    subnets: pa.Array
    reasons: pa.Array

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """Rows of `OBSERVED`, in any order; five-tuples are not numbered yet."""

        def column(name: str) -> Ints:
            return numbers(table.column(name), -1)

        network, networks = codes(table.column("network"))
        (lo, hi, shown), addresses = shared_codes(*(table.column(name) for name in ("lo_addr", "hi_addr", "shown")))
        observer, observers = codes(table.column("observer"))
        by_name = np.argsort(observers.to_numpy(zero_copy_only=False))
        rank = np.empty(len(by_name), np.int64)
        rank[by_name] = np.arange(len(by_name))
        subnet, subnets = codes(table.column("subnet"))
        reason, reasons = codes(table.column("reject_reason"))
        nothing = np.zeros(table.num_rows, np.int64)
        return cls(
            key=nothing,
            episode=nothing,
            lo_end=table.column("lo_end").to_numpy(),
            hi_end=table.column("hi_end").to_numpy(),
            lo=lo,
            lo_port=column("lo_port"),
            hi=hi,
            hi_port=column("hi_port"),
            protocol=column("protocol"),
            forward=column("forward") == 1,
            observer=rank[observer],
            flow_log=column("flow_log"),
            side=column("side"),
            transit=column("transit") == 1,
            shown=shown,
            bare=column("bare") == 1,
            subnet=subnet,
            scope=column("scope"),
            packets=column("packets"),
            octets=column("bytes"),
            start=column("start"),
            end=column("end"),
            action=column("action"),
            flags=column("flags"),
            encryption=column("encryption"),
            reason=reason,
            duplicate=column("duplicate") == 1,
            network=network,
            networks=networks,
            addresses=addresses,
            observers=observers.take(pa.array(by_name)),
            subnets=subnets,
            reasons=reasons,
        )

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.key)

    @property
    def role(self) -> Ints:
        """What the observer is to each row."""
        return np.where(self.transit, TRANSIT, self.side)

    @property
    def rejected(self) -> Flags:
        """Rows whose packets the observer's rules refused."""
        return self.action == REJECTED

    @property
    def at_source(self) -> Flags:
        """Rows whose observer stands on the sending side."""
        return self.side == SENDER

    @property
    def local_is_lo(self) -> Flags:
        """Rows whose end on the observer's side is `lo`; of no meaning where the side is unknown."""
        return self.forward == self.at_source

    @property
    def hashed(self) -> npt.NDArray[np.uint64]:
        """What identifies the five-tuple of each row on every machine and every day."""
        return mixed(self.lo_end, self.hi_end, self.protocol)

    def take(self, order: Ints) -> Rows:
        """Some of the rows, in some order."""
        if len(order) == self.count and (np.diff(order) == 1).all():
            return self
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: values[order] for name, values in arrays.items() if isinstance(values, np.ndarray)})

    def in_order(self) -> Rows:
        """The rows with their five-tuples numbered, sorted by five-tuple, observer, flow log, start and end."""
        hashed = self.hashed
        parts = (self.network, self.lo, self.hi, self.lo_port, self.hi_port, self.protocol)
        numbered = replace(self, key=_five_tuples(hashed, parts))
        return numbered.take(sort_by(numbered.key, self.observer, self.flow_log, self.start, self.end - self.start))

    def with_local(self, chosen: Ints, word: Ints, end: npt.NDArray[np.uint64]) -> Rows:
        """The rows with another address, and its end's hash, in the place of the end on the observer's side, for the chosen ones."""
        high, low = packed(self.addresses)
        rank = np.empty(len(self.addresses), np.int64)
        rank[np.lexsort((low, high))] = np.arange(len(rank))
        local_is_lo = self.local_is_lo[chosen]
        peer = np.where(local_is_lo, self.hi[chosen], self.lo[chosen])
        peer_end = np.where(local_is_lo, self.hi_end[chosen], self.lo_end[chosen])
        local_port = np.where(local_is_lo, self.lo_port[chosen], self.hi_port[chosen])
        peer_port = np.where(local_is_lo, self.hi_port[chosen], self.lo_port[chosen])
        now_lo = (rank[word] < rank[peer]) | ((rank[word] == rank[peer]) & (local_port <= peer_port))
        changed = {
            "lo": np.where(now_lo, word, peer),
            "hi": np.where(now_lo, peer, word),
            "lo_end": np.where(now_lo, end, peer_end),
            "hi_end": np.where(now_lo, peer_end, end),
            "lo_port": np.where(now_lo, local_port, peer_port),
            "hi_port": np.where(now_lo, peer_port, local_port),
            "forward": now_lo == self.at_source[chosen],
        }
        arrays = {name: getattr(self, name).copy() for name in changed}
        for name, values in changed.items():
            arrays[name][chosen] = values
        return replace(self, **arrays)


def _five_tuples(hashed: npt.NDArray[np.uint64], parts: tuple[Ints, ...]) -> Ints:
    """The five-tuple of each row, numbered: by hash, or by its parts where two of them share a hash."""
    order = np.argsort(hashed)
    groups = Groups.of(hashed[order])
    if any((part[order] != groups.spread(part[order][groups.starts])).any() for part in parts):
        order = sort_by(*parts)
        groups = Groups.of(*(part[order] for part in parts))
    key = np.empty(len(order), np.int64)
    key[order] = groups.ids
    return key
