"""Which VPCs are one network, in which an address means one place.

In: an inventory, the links that the operator typed in, the VPCs met in the logs. Out: the network of each VPC, named after the smallest
VPC id in it. 172.31.0.0/16 is every account's default VPC, so an address alone means nothing; two VPCs are one network where they are
known to route to each other and no address range of the one overlaps one of the other.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from flowlog_udfs import columns
from flowlog_udfs.addresses import cidr_range
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory, Link

CONFIGURED = "[networks] links"
"""What a join is `via` that the operator asked for."""


@dataclass(frozen=True)
class NetworksConfig:
    """Section `[networks]`: `links` lists groups of VPCs that route to each other where no inventory says so."""

    links: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def parse(cls, links: Any) -> NetworksConfig:
        """Read the value of `links` as TOML gives it; raises `UsageError` naming a wrong one."""
        if not isinstance(links, list):
            raise UsageError(f'[networks] links = {links!r}: must be a list of lists of VPC ids, like [["vpc-1", "vpc-2"]]')
        for group in links:
            good = isinstance(group, list) and all(isinstance(vpc_id, str) and vpc_id.startswith("vpc-") for vpc_id in group)
            if not good or len(set(group)) < 2:
                raise UsageError(f'[networks] links holds {group!r}: must be a list of two or more VPC ids, like ["vpc-1", "vpc-2"]')
        return cls(tuple(tuple(group) for group in links))


@dataclass(frozen=True, slots=True)
class RefusedJoin:
    """A VPC that a link names but that was left outside the network of the link's other VPCs, and why."""

    via: str
    vpc_id: str
    reason: str

    def __str__(self) -> str:
        """One line for a report."""
        return f"{self.vpc_id} was not joined through {self.via}: {self.reason}"


@dataclass(frozen=True)
class Networks:
    """The network of each VPC, by VPC id, and the joins that were refused."""

    by_vpc: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[RefusedJoin, ...] = ()

    @classmethod
    def build(cls, inventory: Inventory | None, links: Sequence[Sequence[str]] = (), seen: Iterable[str] = ()) -> Networks:
        """Join VPCs by the operator's links, then by peerings and transit gateways; `seen` are VPC ids met in the logs.

        A join is refused that would put overlapping ranges into one network, also through VPCs joined before. The order of joins, which
        then decides, is that of the VPCs' address ranges, and of their ids only where these are equal, so that a VPC under another id
        gives the same networks. A link from the inventory needs the ranges of its VPCs; an operator's link is believed without.
        """
        cidrs = inventory.cidrs if inventory else {}
        ranges = {vpc_id: sorted(map(cidr_range, cidrs[vpc_id])) for vpc_id in sorted(cidrs)}
        vpc_ids = {*cidrs, *seen, *(vpc_id for link in links for vpc_id in link)}
        joining = _Joining(ranges, vpc_ids)
        joining.join_all(Link(CONFIGURED, tuple(link)) for link in links)
        joining.join_all(inventory.links if inventory else ())
        return cls(joining.names(), tuple(joining.refused))

    def name(self, vpc_id: str) -> str:
        """The network of a VPC; one that no one spoke of is a network of its own."""
        return self.by_vpc.get(vpc_id, vpc_id)

    def of(self, vpc_ids: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
        """The network of each VPC id in a column; null stays null."""
        places, words = columns.codes(vpc_ids)
        names = [self.name(vpc_id) for vpc_id in words.to_pylist()]
        # Two VPCs of one network must share one code, so the names are encoded anew.
        renamed, networks = columns.codes(pa.array(names, pa.string()))
        return columns.texts(np.append(renamed, -1)[places], networks)


def network_without_vpc(account_id: str | None, region: str, flow_log_id: str) -> str:
    """The name of the network of rows whose VPC nothing tells: account, Region and flow log keep them apart from all others."""
    return f"{account_id or 'unknown'}/{region}/{flow_log_id}"


class _Joining:
    """Networks while they grow: the members of each, and their address ranges in order."""

    def __init__(self, ranges: Mapping[str, list[tuple[int, int]]], vpc_ids: Iterable[str]) -> None:
        self.ranges = {vpc_id: _outermost(spans) for vpc_id, spans in ranges.items()}
        self.network = {vpc_id: vpc_id for vpc_id in vpc_ids}
        self.members = {vpc_id: [vpc_id] for vpc_id in self.network}
        self.spans = {vpc_id: list(self.ranges.get(vpc_id, ())) for vpc_id in self.network}
        self.refused: list[RefusedJoin] = []

    def join_all(self, links: Iterable[Link]) -> None:
        """Join the VPCs of each link, in an order that does not depend on their names unless nothing else tells them apart."""
        for link in sorted(links, key=lambda link: ([self._order(vpc_id) for vpc_id in self._sorted(link)], link.via)):
            self._join(link)

    def _order(self, vpc_id: str) -> tuple[list[tuple[int, int]], str]:
        return self.ranges.get(vpc_id, []), vpc_id

    def _sorted(self, link: Link) -> list[str]:
        return sorted(set(link.vpc_ids), key=self._order)

    def _join(self, link: Link) -> None:
        roots: list[str] = []
        for vpc_id in self._sorted(link):
            if vpc_id not in self.ranges and link.via != CONFIGURED:
                self.refused.append(RefusedJoin(link.via, vpc_id, "the inventory does not have its address ranges"))
                continue
            own = self.network[vpc_id]
            if own in roots:
                continue
            clashes = [root for root in roots if self._clash(root, own)]
            fits = [root for root in roots if root not in clashes]
            if clashes:
                other = self._clash(clashes[0], own)
                self.refused.append(RefusedJoin(link.via, vpc_id, f"its network overlaps that of {other}"))
            if fits:
                self._merge(fits[0], own)
            else:
                roots.append(own)

    def _clash(self, one: str, other: str) -> str | None:
        """A VPC of one network that overlaps the other, or None."""
        few, many = sorted((self.spans[one], self.spans[other]), key=len)
        for start, end in few:
            before = bisect_right(many, (start, 1 << 129)) - 1
            if (before >= 0 and many[before][1] > start) or (before + 1 < len(many) and many[before + 1][0] < end):
                overlapping = (vpc_id for vpc_id in self.members[one] if any(start < e and s < end for s, e in self.ranges.get(vpc_id, ())))
                return min(overlapping)
        return None

    def _merge(self, root: str, joining: str) -> None:
        for vpc_id in self.members.pop(joining):
            self.members[root].append(vpc_id)
            self.network[vpc_id] = root
        for span in self.spans.pop(joining):
            insort(self.spans[root], span)

    def names(self) -> dict[str, str]:
        """Networks by VPC, each under its smallest VPC id."""
        smallest = {network: min(members) for network, members in self.members.items()}
        return {vpc_id: smallest[self.network[vpc_id]] for vpc_id in sorted(self.network)}


def _outermost(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order without those inside others; CIDRs never overlap in part."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept
