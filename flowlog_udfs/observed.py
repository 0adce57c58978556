"""Observed rows: flow log records with their ends and their observer, as the analytics kernels exchange and sort them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, codes, mixed, numbers, shared_codes, sort_by

_TEXT = pa.dictionary(pa.int32(), pa.string())

OBSERVED = pa.schema(
    [
        ("network", _TEXT),
        ("lo_addr", _TEXT),
        ("lo_port", pa.int32()),
        ("hi_addr", _TEXT),
        ("hi_port", pa.int32()),
        ("protocol", pa.int32()),
        ("lo_end", pa.uint64()),  # hash of network, address, port and protocol
        ("hi_end", pa.uint64()),
        ("forward", pa.bool_()),  # whether `lo` sent these packets
        ("observer", _TEXT),  # the interface, or the regional NAT gateway
        ("role", pa.int8()),  # what it is to the row: `observations.SENDER` …
        ("packets", pa.int64()),
        ("bytes", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("rejected", pa.bool_()),
        ("flags", pa.int16()),  # null without
        ("trusted_ack", pa.bool_()),
        ("only_evidence", pa.bool_()),  # an overlapping subscription's row: its flags count, its bytes do not
    ]
)


@dataclass(frozen=True)
class Rows:
    """Observed rows as arrays. `key` numbers the five-tuples, `lo` and `hi` their addresses among `addresses`."""

    key: Ints
    episode: Ints
    hashed: npt.NDArray[np.uint64]
    lo_end: npt.NDArray[np.uint64]
    hi_end: npt.NDArray[np.uint64]
    lo: Ints
    lo_port: Ints
    hi: Ints
    hi_port: Ints
    protocol: Ints
    forward: Flags
    observer: Ints
    role: Ints
    packets: Ints
    octets: Ints
    start: Ints
    end: Ints
    rejected: Flags
    flags: Ints
    trusted_ack: Flags
    only_evidence: Flags
    network: Ints
    networks: pa.Array
    addresses: pa.Array
    observers: pa.Array

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """Rows of `OBSERVED`, sorted by five-tuple, observer and start; observers numbered in the order of their names."""

        def column(name: str, absent: int = 0) -> Ints:
            return numbers(table.column(name), absent)

        network, networks = codes(table.column("network"))
        (lo, hi), addresses = shared_codes(table.column("lo_addr"), table.column("hi_addr"))
        observer, observers = codes(table.column("observer"))
        by_name = np.argsort(observers.to_numpy(zero_copy_only=False))
        rank = np.empty(len(by_name), np.int64)
        rank[by_name] = np.arange(len(by_name))
        lo_end, hi_end = (table.column(name).to_numpy() for name in ("lo_end", "hi_end"))
        hashed = mixed(lo_end, hi_end)
        key = _five_tuples(hashed, (network, lo, hi, column("lo_port"), column("hi_port"), column("protocol")))
        rows = cls(
            key=key,
            episode=np.ones(len(key), np.int64),
            hashed=hashed,
            lo_end=lo_end,
            hi_end=hi_end,
            lo=lo,
            lo_port=column("lo_port"),
            hi=hi,
            hi_port=column("hi_port"),
            protocol=column("protocol"),
            forward=column("forward").astype(bool),
            observer=rank[observer],
            role=column("role"),
            packets=column("packets"),
            octets=column("bytes"),
            start=column("start"),
            end=column("end"),
            rejected=column("rejected").astype(bool),
            flags=column("flags", -1),
            trusted_ack=column("trusted_ack").astype(bool),
            only_evidence=column("only_evidence").astype(bool),
            network=network,
            networks=networks,
            addresses=addresses,
            observers=observers.take(pa.array(by_name)),
        )
        return rows.take(sort_by(key, rows.observer, rows.start))

    def take(self, order: Ints) -> Rows:
        """Some of the rows, in some order."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: values[order] for name, values in arrays.items() if isinstance(values, np.ndarray)})


def _five_tuples(hashed: npt.NDArray[np.uint64], parts: tuple[Ints, ...]) -> Ints:
    """The five-tuple of each row, numbered: by hash, or by its parts where two of them share a hash."""
    order = np.argsort(hashed, kind="stable")
    groups = Groups.of(hashed[order])
    if any((part[order] != groups.spread(part[order][groups.starts])).any() for part in parts):
        order = sort_by(*parts)
        groups = Groups.of(*(part[order] for part in parts))
    key = np.empty(len(order), np.int64)
    key[order] = groups.ids
    return key
