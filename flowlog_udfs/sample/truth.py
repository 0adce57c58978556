"""Which of a day's records count, and what each interface's verdict makes of the flows: the ground on which the truth tables stand.

Truth is kept to what was logged: a record belongs to the day in which it starts, and of several records of one byte that of the
sender's interface counts, then the receiver's, then one in transit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from flowlog_udfs.sample.delivery import DAY
from flowlog_udfs.sample.observation import STATUS_SKIPDATA, Observed
from flowlog_udfs.sample.topology import Column
from flowlog_udfs.sample.traffic import IN_TRANSIT, INITIATOR_END, RESPONDER_END, Table

BUCKETS = ("counted", "duplicate_delivery", "duplicate_subscription", "nat_leg", "transit_only", "no_subnet", "nodata", "skipdata")
COUNTED, DELIVERED_TWICE, DUPLICATE, NAT_LEG, TRANSIT_ONLY, NO_SUBNET, NODATA, SKIPDATA = range(len(BUCKETS))

OBSERVERS = ("receiver", "transit", "sender")


@dataclass(frozen=True)
class Day:
    """One day of what was observed. `late` marks records, by their row number, that lie in objects which came late."""

    observed: Observed
    number: int
    epoch: int
    late: Column

    @cached_property
    def rows(self) -> Column:
        """Row numbers of the records that start in this day."""
        return np.flatnonzero(self.observed.records["start"] // DAY == self.number)

    @cached_property
    def records(self) -> Table:
        """The records that start in this day."""
        records: Table = self.observed.records[self.rows]
        return records

    @cached_property
    def flow(self) -> Column:
        """Their flows; -1 for NODATA and SKIPDATA."""
        flow: Column = self.observed.streams["flow"][self.records["stream"]]
        return flow

    @cached_property
    def stream_flags(self) -> tuple[Column, Column]:
        """By stream: whether it is seen at the sender's interface, and whether at the receiver's."""
        streams, traffic = self.observed.streams, self.observed.traffic
        part, reverse = traffic.sightings["part"][streams["sighting"]], traffic.flows["reverse"][streams["flow"]]
        return part == np.where(reverse, RESPONDER_END, INITIATOR_END), part == np.where(reverse, INITIATOR_END, RESPONDER_END)

    @cached_property
    def judged(self) -> tuple[Column, Column, Column]:
        """By flow: the sighting whose records count, whether it was rejected, and which of `OBSERVERS` says so; -1 where unseen."""
        streams = self.observed.streams
        sender, receiver = self.stream_flags
        used = np.bincount(self.records["stream"][~self.records["duplicate"] & (self.flow >= 0)], minlength=len(streams)) > 0
        seen = np.flatnonzero(used)
        nearest_sender = np.where(sender, 0, np.where(receiver, 1, 2))
        nearest_receiver = np.where(receiver, 0, np.where(sender, 2, 1))
        chosen, rejected, observer = (np.full(len(self.observed.traffic.flows), -1, np.int32) for _ in range(3))
        # Later assignments win, so the best stream of a flow comes last.
        order = seen[np.lexsort((-seen, -nearest_sender[seen]))]
        chosen[streams["flow"][order]] = streams["sighting"][order]
        order = seen[np.lexsort((-seen, -nearest_receiver[seen]))]
        rejected[streams["flow"][order]], observer[streams["flow"][order]] = streams["rejected"][order], nearest_receiver[order]
        return chosen, rejected, observer

    @cached_property
    def counts_for_connection(self) -> Column:
        """Which records are the one observation of their bytes."""
        sighting = self.observed.streams["sighting"][self.records["stream"]]
        counts: Column = (self.flow >= 0) & ~self.records["duplicate"] & (sighting == self.judged[0][self.flow])
        return counts

    @cached_property
    def bucket(self) -> Column:
        """The place in `BUCKETS` of each record; copies of whole objects are not records here."""
        streams, traffic = self.observed.streams, self.observed.traffic
        stream = streams[self.records["stream"]]
        part = traffic.sightings["part"][stream["sighting"]]
        sender, receiver = self.stream_flags
        at_an_end = (sender | receiver)[self.records["stream"]] & ~self.records["duplicate"] & (self.flow >= 0)
        owned = np.bincount(self.flow[at_an_end], minlength=len(traffic.flows)) > 0
        bucket = np.where(self.observed.topology.subnet_index[stream["interface"]] < 0, NO_SUBNET, COUNTED)
        bucket = np.where(part == IN_TRANSIT, np.where(owned[self.flow], NAT_LEG, TRANSIT_ONLY), bucket)
        bucket = np.where(self.records["duplicate"], DUPLICATE, bucket)
        return np.where(self.flow < 0, np.where(stream["status"] == STATUS_SKIPDATA, SKIPDATA, NODATA), bucket)

    @cached_property
    def connection(self) -> Column:
        """The connection of each record with traffic."""
        connection: Column = self.observed.traffic.flows["connection"][self.flow]
        return connection

    def timestamps(self, seconds: Column, missing: Column | None = None) -> pa.Array:
        """Seconds from the first midnight as timestamps."""
        return pa.array(np.floor(seconds).astype(np.int64) + self.epoch, mask=missing).cast(pa.timestamp("s", "UTC"))

    def sums(self, values: str, chosen: Column) -> Column:
        """A column of the chosen records summed by connection; exact, for sums stay below 2^53."""
        size = len(self.observed.traffic.connections)
        return np.bincount(self.connection[chosen], self.records[values][chosen], size).astype(np.int64)
