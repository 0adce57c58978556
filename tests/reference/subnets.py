"""Stage 5, `subnets`: rows of table `subnet_bytes`, and the account of every record, table `reconciliation`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .connections import Table
from .nat import _name
from .observations import BUCKETS
from .rows import End, Row
from .world import NOWHERE, TENANT_CODES, Known, is_private, within, without_nat64

HOUR = 3600
GROUP = ("hour", "account_id", "region", "vpc_id", "az_id", "subnet_id", "direction", "initiated_by", "peer_scope", "action")


def subnet_bytes(
    rows: Sequence[Row], connections: Table, known: Known, config: Mapping[str, Any], formats: Mapping[str, Sequence[str]]
) -> Table:
    """Sum the counted rows (scope subnet) by `GROUP`: bytes, packets, records, connections_started.

    hour: the full hour (Unix seconds) of start, else of end, else NULL. direction: out if the own side is the source. initiated_by: local
    if the connection's initiator is the row's own end, remote if it is the peer, unknown where nobody is known to have initiated.
    connections_started: 1 for each episode (other than carried ones, and those of unknown initiator), subnet and direction, in the group
    with the least hour (then in the order of the other columns) among the rows that the initiator sent.
    `relayed_bytes` (beyond the fixed columns): bytes of connections that are the target leg of a load balancer which preserves the client's
    address: their front leg counts the same bytes in the balancer's subnet, so totals over subnets by scope leave them out.
    """
    by_episode = {_name(row): row for row in connections}
    own = _own_addresses(rows)
    fields = with_service(rows, formats)
    groups: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(("bytes", "packets", "records", "relayed_bytes"), 0))
    started: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        if row.subnet_bucket != "counted":
            continue
        name = (row.key, row.episode)
        connection = by_episode.get(name) if row.has_ends else None
        has_time = row.record.get("start") is not None or row.record.get("end") is not None
        initiated_by = _initiated_by(row, connection)
        group = (
            row.start // HOUR * HOUR if has_time else None,
            *(row.place[place] for place in ("account_id", "region", "vpc_id", "az_id", "subnet_id")),
            row.direction,
            initiated_by,
            peer_scope(row, own, known, config, row.log in fields),
            row.record.get("action"),
        )
        total = groups[group]
        total["bytes"] += row.bytes
        total["packets"] += row.packets
        total["records"] += 1
        if connection and connection["nat_leg"] == "inside" and _is_balanced(connection, rows):
            total["relayed_bytes"] += row.bytes
        sent_by_initiator = (initiated_by, row.direction) in (("local", "out"), ("remote", "in"))
        if connection and connection["basis"] != "carried" and sent_by_initiator:
            started[(*name, row.place["subnet_id"], row.direction)].append(group)
    first = [min(found, key=lambda group: [(value is not None, value) for value in group]) for found in started.values()]
    table = []
    for group, total in groups.items():
        table.append(dict(zip(GROUP, group, strict=True)) | total | {"connections_started": first.count(group)})
    return sorted(table, key=lambda row: [str(row[name]) for name in GROUP])


def with_service(rows: Sequence[Row], formats: Mapping[str, Sequence[str]]) -> set[str]:
    """The flow logs whose format names the service of a peer."""
    found = {log for log, fields in formats.items() if {"pkt-src-aws-service", "pkt-dst-aws-service"} & set(fields)}
    return found | {row.log for row in rows if row.record.get("pkt_src_aws_service") or row.record.get("pkt_dst_aws_service")}


def _is_balanced(connection: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    return any(row.observer == connection["nat_id"] and row.kind == "network_load_balancer" for row in rows)


def _initiated_by(row: Row, connection: Mapping[str, Any] | None) -> str:
    if connection is None or connection["basis"] == "none":
        return "unknown"
    initiator = End(connection["initiator_addr"], connection["initiator_port"])
    return "local" if initiator == row.local else "remote" if initiator == row.peer else "unknown"


def _own_addresses(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """The subnet of every address that an interface showed as its own this day; of several the least."""
    own: dict[tuple[str, str], str] = {}
    for row in rows:
        for address in row.owned:
            subnet = row.place["subnet_id"] or ""
            own[row.network, address] = min(own.get((row.network, address), subnet), subnet)
    return own


def peer_scope(row: Row, own: Mapping[tuple[str, str], str], known: Known, config: Mapping[str, Any], has_service: bool) -> str:
    """The first that fits, for the packet-level peer (an address of NAT64's range stands for the IPv4 address in it):

    unknown       no address, or one that is no one's (loopback, unspecified, reserved).
    same-subnet   in a range of the row's subnet in the inventory, or shown as its own by an interface of that subnet and network.
    own-network   private or never routed; in a range of a VPC of the row's network, in IPv6 of any VPC of the inventory; or an IPv6 address
                  that an interface of the network showed as its own.
    own-public    a public address of the inventory, or a public IPv4 address that an interface showed as its own.
    then the service field of the peer's side, where the format has it: aws-tenant (`TENANT_CODES`), aws-service (any other), internet
    (none); else the same from the configured snapshot of ranges, where a service's name says more than a tenant's; else
    public-unclassified.
    """
    if not row.has_ends or row.peer.address is None:
        return "unknown"
    peer = without_nat64(str(row.peer.address))
    if within(peer, NOWHERE) and peer != "255.255.255.255":
        return "unknown"
    subnet = row.place["subnet_id"]
    shown_in = own.get((row.network, peer))
    if (shown_in and shown_in == subnet) or within(peer, known.subnets.get(subnet or "", {}).get("cidrs", [])):
        return "same-subnet"
    networks = known.networks(config["links"], [row.place["vpc_id"]] if row.place["vpc_id"] else [])
    mine = [cidr for vpc, cidrs in known.vpc_cidrs.items() for cidr in cidrs if networks[vpc] == row.network or ":" in cidr]
    if is_private(peer) or within(peer, mine) or (":" in peer and shown_in is not None):
        return "own-network"
    if peer in known.public or shown_in is not None:
        return "own-public"
    code = row.record.get("pkt_src_aws_service" if row.own == "dst" else "pkt_dst_aws_service")
    if has_service:
        return _scope_of_code(code)
    if config["ip_ranges"] is None:
        return "public-unclassified"
    scopes = {_scope_of_code(service) for cidr, service in config["ip_ranges"] if within(peer, [cidr])}
    return next((scope for scope in ("aws-service", "aws-tenant") if scope in scopes), "internet")


def _scope_of_code(code: str | None) -> str:
    return "internet" if code is None else "aws-tenant" if code in TENANT_CODES else "aws-service"


def reconciliation(rows: Sequence[Row]) -> Table:
    """For both scopes and measures the value of every bucket and of `raw`; `no_ends` only where there is such a record."""
    table = []
    for scope in ("subnet", "connection"):
        sums: dict[str, list[int]] = {"raw": [0, 0], **{bucket: [0, 0] for bucket in BUCKETS}}
        unused = ("other_end",) if scope == "subnet" else ("no_side", "no_subnet")
        for row in rows:
            bucket = row.subnet_bucket if scope == "subnet" else row.connection_bucket
            for name in ("raw", bucket):
                total = sums.setdefault(name, [0, 0])
                total[0] += row.bytes
                total[1] += 1
        for bucket, values in sums.items():
            if bucket not in unused:
                table += [
                    {"scope": scope, "measure": m, "bucket": bucket, "value": v} for m, v in zip(("bytes", "records"), values, strict=True)
                ]
    return table
