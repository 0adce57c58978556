"""The four addresses of a record, packet-level and as logged, as numbers of one vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from flowlog_udfs.addresses import Words, is_ipv4, is_private, packed, without_nat64
from flowlog_udfs.columns import Flags, Ints, as_array, shared_codes


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends of a batch of records: codes of `words`, -1 where the format has none.

    `source` and `target` are packet-level; `shown_source` and `shown_target` are what the interface logged, which is its own primary
    address where the packet's local address is another. Source: AWS, "Flow log records", `srcaddr` and `pkt-srcaddr`.
    """

    source: Ints
    target: Ints
    shown_source: Ints
    shown_target: Ints
    words: pa.Array

    @classmethod
    def of(cls, records: pa.Table) -> Ends:
        """The ends of records with columns `srcaddr, dstaddr, pkt_srcaddr, pkt_dstaddr`."""
        columns = [as_array(records.column(name)) for name in ("srcaddr", "dstaddr", "pkt_srcaddr", "pkt_dstaddr")]
        present = [column for column in columns if column.null_count < len(column)]
        if not present:
            nowhere = np.full(records.num_rows, -1)
            return cls(nowhere, nowhere, nowhere, nowhere, pa.array([], pa.string()))
        found, words = shared_codes(*present)
        coded = iter(found)
        source, target, from_end, to_end = (
            next(coded) if column.null_count < len(column) else np.full(len(column), -1) for column in columns
        )
        return cls(
            np.where(from_end >= 0, from_end, source),
            np.where(to_end >= 0, to_end, target),
            np.where(source >= 0, source, from_end),
            np.where(target >= 0, target, to_end),
            words,
        )

    def take(self, chosen: Ints) -> Ends:
        """Some of the rows."""
        return Ends(self.source[chosen], self.target[chosen], self.shown_source[chosen], self.shown_target[chosen], self.words)

    @property
    def both(self) -> Flags:
        """Records with two ends."""
        return (self.source >= 0) & (self.target >= 0)

    @property
    def source_differs(self) -> Flags:
        """Records whose source was logged as another address."""
        return self.source != self.shown_source

    @property
    def target_differs(self) -> Flags:
        """Records whose target was logged as another address."""
        return self.target != self.shown_target

    @cached_property
    def packed(self) -> tuple[Words, Words]:
        """The words as numbers, see `addresses.packed`."""
        return packed(self.words)

    @cached_property
    def private(self) -> Flags:
        """Which words are private addresses; one entry more, for code -1."""
        return np.append(is_private(*self.packed), False)

    @cached_property
    def translated(self) -> Flags:
        """Which words are of NAT64's range (RFC 6052); one entry more, for code -1."""
        return np.append(without_nat64(*self.packed)[1] != self.packed[1], False)

    @cached_property
    def ipv4(self) -> Flags:
        """Which words are IPv4; one entry more, for code -1."""
        return np.append(is_ipv4(*self.packed), False)

    @property
    def of_inside_leg(self) -> Flags:
        """At a regional NAT gateway: one end is inside and the other on the internet, or one is of NAT64's range."""
        source, target = self.source, self.target
        return self.translated[source] | self.translated[target] | (self.private[source] != self.private[target])
