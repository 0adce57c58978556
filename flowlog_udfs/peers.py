"""Where the other end of a flow stands, seen from one's own subnet: the peer scope of the per-subnet totals.

In: columns of peer addresses (as words, see `addresses`), of own networks and subnets, and AWS's name for the peer's address range. Out: a
column of codes, the places in `PEER_SCOPES`. The scopes are tried in this order, and the first that fits is taken:

    same-subnet          the peer is in the own subnet, by the inventory's ranges or as the address of an interface seen there
    own-network          in a range of a VPC of the own network, or of any of the owner's in IPv6, where ranges are unique; an interface's
                         own IPv6 address there; private (RFC 1918, RFC 6598, RFC 4193); link-local, multicast and broadcast, which no
                         internet gateway lets out
    own-public           a public address that the owner holds
    aws-service          in the range of an AWS service
    aws-tenant           in a range that AWS rents out to anyone: of the internet, as far as trust goes
    internet             none of these, and the flow log or a snapshot of AWS's ranges would have told
    public-unclassified  none of these, and nothing tells AWS from the rest of the internet
    unknown              no address, or one that is no one's on any network (loopback, 0.0.0.0/8, reserved 240.0.0.0/4)

A NAT64 address counts as the IPv4 address inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs import columns
from flowlog_udfs.addresses import Codes, Flags, PrefixTable, Words, is_link_local, is_multicast, is_nowhere, is_private, without_nat64
from flowlog_udfs.documents import read_json
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.networks import Networks

PEER_SCOPES = ("same-subnet", "own-network", "own-public", "aws-service", "aws-tenant", "internet", "public-unclassified", "unknown")
SAME_SUBNET, OWN_NETWORK, OWN_PUBLIC, AWS_SERVICE, AWS_TENANT, INTERNET, PUBLIC_UNCLASSIFIED, UNKNOWN = range(len(PEER_SCOPES))

TENANT_CODES = frozenset({"EC2", "AMAZON", "CLOUDFRONT", "API_GATEWAY", "GLOBALACCELERATOR"})
"""AWS's names of ranges behind which anyone's machines may stand; AMAZON is what remains of all ranges when no service claims them."""


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """The own address of an interface seen in the logs, and where it is; `subnet_id` is empty where nothing says."""

    network: str
    address: str
    subnet_id: str


@dataclass(frozen=True, eq=False)
class AwsRanges:
    """A snapshot of AWS's address ranges (`ip-ranges.json`) and the time at which AWS made it; a report that leans on it names that."""

    created: datetime
    scopes: PrefixTable

    @classmethod
    def load(cls, path: Path) -> AwsRanges:
        """Read a file as AWS publishes it; raises `UsageError` naming the file and what is wrong. Source: AWS, "AWS IP address ranges"."""
        try:
            published = read_json(path, "take AWS's ip-ranges.json as AWS publishes it")
            created = datetime.strptime(published["createDate"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=timezone.utc)
            named = [(entry["ip_prefix"], entry["service"]) for entry in published["prefixes"]]
            named += [(entry["ipv6_prefix"], entry["service"]) for entry in published["ipv6_prefixes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not AWS's ip-ranges.json ({error!r}); take the file as AWS publishes it") from error
        if not all(isinstance(published[name], list) for name in ("prefixes", "ipv6_prefixes")):
            raise UsageError(f"{path}: not AWS's ip-ranges.json (no lists of prefixes); take the file as AWS publishes it")
        strange = [one for entry in named for one in entry if not isinstance(one, str)]
        if strange:
            raise UsageError(f"{path}: not AWS's ip-ranges.json ({strange[0]!r} is no text); take the file as AWS publishes it")
        # A range is listed once for each of its names, AMAZON among them; a service's name says more than a tenant's.
        scopes: dict[str, int] = {}
        for cidr, service in named:
            scopes[cidr] = min(scopes.get(cidr, UNKNOWN), _service_scope(service))
        try:
            return cls(created, PrefixTable.build(scopes.items()))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error


def _service_scope(service: str) -> int:
    return AWS_TENANT if service in TENANT_CODES else AWS_SERVICE


@dataclass(frozen=True, eq=False)
class PeerScopes:
    """What is needed to tell the scope of any peer: made once for a day, then asked for whole columns."""

    _networks: Mapping[str, int]
    _subnets: Mapping[str, int]
    _in_subnet: PrefixTable
    _in_network: PrefixTable
    _own_ipv6: PrefixTable
    _own_public: PrefixTable
    _ranges: AwsRanges | None

    @classmethod
    def build(
        cls,
        networks: Networks,
        inventory: Inventory | None = None,
        ranges: AwsRanges | None = None,
        known: Iterable[KnownAddress] = (),
        public: Iterable[str] = (),
    ) -> PeerScopes:
        """Prepare for a day. `known` are interfaces' own addresses met in the logs, `public` the owner's public ones met there."""
        seen = sorted(set(known), key=lambda one: (one.network, one.address, one.subnet_id))
        vpc_subnets = inventory.subnets if inventory else ()
        names = sorted({*networks.by_vpc.values(), *(one.network for one in seen), *(subnet.vpc_id for subnet in vpc_subnets)})
        network_code = {name: code for code, name in enumerate(names)}
        subnet_code = {name: code for code, name in enumerate(sorted({*(s.subnet_id for s in vpc_subnets), *(s.subnet_id for s in seen)}))}

        # Of an address or range given twice in one network the inventory's word counts, then the smaller subnet id.
        in_subnet: dict[int, dict[str, int]] = {code: {} for code in network_code.values()}
        for subnet in vpc_subnets:
            for cidr in subnet.cidrs:
                in_subnet[network_code[networks.name(subnet.vpc_id)]].setdefault(cidr, subnet_code[subnet.subnet_id])
        for one in seen:
            if one.subnet_id:
                in_subnet[network_code[one.network]].setdefault(_host(one.address), subnet_code[one.subnet_id])

        in_network: dict[int, set[str]] = {code: set() for code in network_code.values()}
        cidrs = inventory.cidrs if inventory else {}
        for vpc_id, ranges_of_vpc in cidrs.items():
            in_network[network_code[networks.name(vpc_id)]].update(ranges_of_vpc)
        for one in seen:
            if ":" in one.address:
                in_network[network_code[one.network]].add(_host(one.address))
        own_ipv6 = {cidr for ranges_of_vpc in cidrs.values() for cidr in ranges_of_vpc if ":" in cidr}
        own_public = {*public, *(inventory.public_addresses if inventory else ())}
        return cls(
            network_code,
            subnet_code,
            PrefixTable.build_grouped({code: found.items() for code, found in in_subnet.items()}),
            PrefixTable.build_grouped({code: [(cidr, 1) for cidr in found] for code, found in in_network.items()}),
            PrefixTable.build((cidr, 1) for cidr in own_ipv6),
            PrefixTable.build((_host(address), 1) for address in own_public),
            ranges,
        )

    def codes(
        self,
        high: Words,
        low: Words,
        network: pa.ChunkedArray | pa.Array,
        subnet: pa.ChunkedArray | pa.Array,
        service: pa.ChunkedArray | pa.Array | None = None,
        service_logged: Flags | None = None,
    ) -> npt.NDArray[np.int8]:
        """The scope of each peer, a place in `PEER_SCOPES`.

        `high`, `low` are the peer's address, `network` and `subnet` the names of one's own, `service` the field `pkt-src-aws-service` or
        `pkt-dst-aws-service` of the peer's side. `service_logged` says which rows come from a format with that field: there an absent
        value means that AWS knows no range. Without it, only rows with a value have the field.
        """
        high, low = without_nat64(high, low)
        own_network, own_subnet = _codes(network, self._networks), _codes(subnet, self._subnets)
        named = np.full(len(high), -1, np.int64) if service is None else _service_codes(service)
        logged = named >= 0 if service_logged is None else service_logged | (named >= 0)

        found = self._public_codes(high, low, named, logged)
        found[self._own_public.match(high, low) >= 0] = OWN_PUBLIC
        found[is_nowhere(high, low)] = UNKNOWN
        inside = is_private(high, low) | is_link_local(high, low) | is_multicast(high, low)
        inside |= (self._in_network.match(high, low, own_network) >= 0) | (self._own_ipv6.match(high, low) >= 0)
        found[inside] = OWN_NETWORK
        peer_subnet = self._in_subnet.match(high, low, own_network)
        found[(peer_subnet >= 0) & (peer_subnet == own_subnet)] = SAME_SUBNET
        return found.astype(np.int8)

    def _public_codes(self, high: Words, low: Words, named: Codes, logged: Flags) -> Codes:
        """Scopes of peers that are not the owner's: by the flow log's word, else by the snapshot's."""
        silent = np.full(len(high), PUBLIC_UNCLASSIFIED, np.int64)
        if self._ranges and not logged.all():
            ranged = self._ranges.scopes.match(high, low)
            silent = np.where(ranged >= 0, ranged, INTERNET)
        return np.where(named >= 0, named, np.where(logged, INTERNET, silent))


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _codes(texts: Any, place: Mapping[str, int]) -> Codes:
    """The code of each text, -1 for null and for texts without one."""
    places, words = columns.codes(texts)
    return np.array([*(place.get(word, -1) for word in words.to_pylist()), -1], np.int64)[places]


def _service_codes(services: Any) -> Codes:
    places, words = columns.codes(services)
    return np.array([*(_service_scope(word) for word in words.to_pylist()), -1], np.int64)[places]
