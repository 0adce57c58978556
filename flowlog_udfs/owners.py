"""Whose an address of a network is, be its interface logged or not: for ends of connections that their own interface did not log.

In: the day's interfaces with the addresses that are their own, and those that an inventory lists and no flow log captured. An address that
two interfaces claim is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from flowlog_udfs.columns import Ints
from flowlog_udfs.interfaces import Interface


@dataclass(frozen=True)
class Owners:
    """The interfaces that own an address, and by network and address the place of its one owner."""

    interfaces: tuple[Interface, ...] = ()
    by_address: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, interfaces: Iterable[Interface]) -> Owners:
        """The owners among interfaces; a regional NAT gateway has addresses, and no interface."""
        listed = tuple(one for one in interfaces if one.interface_id is not None)
        claimed: dict[tuple[str, str], int] = {}
        for place, one in enumerate(listed):
            for address in one.own:
                if claimed.setdefault((one.network, address), place) != place:
                    claimed[one.network, address] = -1
        return cls(listed, {end: place for end, place in claimed.items() if place >= 0})

    def find(self, ends: Iterable[tuple[str, str]]) -> Ints:
        """The place of the owner of each network and address; -1 where there is none."""
        return np.array([self.by_address.get(end, -1) for end in ends], np.int64)
