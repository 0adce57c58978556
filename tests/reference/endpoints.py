"""Stage 1, `endpoints`: who owns each end of a record, which interface saw it, and what that interface is to the record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import RECEIVER, SENDER, TRANSIT, End, Row, first_of
from .world import FORWARDING, TERMINATING, Known, Record, is_private, too_far_for_a_subnet, within, without_nat64

PLACES = ("account_id", "region", "vpc_id", "subnet_id", "az_id", "instance_id")


def endpoints(records: Sequence[Record], known: Known, config: Mapping[str, Any], formats: Mapping[str, Sequence[str]]) -> list[Row]:
    """Give every record its ends, its network, its interface's own side and what forwards it.

    1. Packet-level address: `pkt-*`, else what a richer row of the same interface and interface-level five-tuple shows (if all that have
       `pkt-*` agree), else the plain address. Each side for itself.
    2. Observer: interface-id, else resource-id (regional NAT gateway), else one nameless observer per network.
    3. Place of an observer (account, Region, VPC, subnet, zone, instance): the row's own value, else the smallest that any row of the same
       observer has that day in any flow log, else the inventory's; account and Region at last from the object's key. `unknown` is no
       account.
    4. Network: the joined network of the VPC (`Known.networks`). A flow log, and all that are connected to it by common interfaces, watch
       one VPC: a row whose VPC nothing tells is of the one that their other rows tell, if it is one. If none does the network is
       `account/region/flow log`, with the smallest flow log id among those connected and the account and Region of that one's key.
    5. Own addresses of an observer: the inventory's (addresses and delegated prefixes), and with them, or alone where the inventory does
       not list the interface: srcaddr of egress rows and dstaddr of ingress rows; an address whose own side shows another packet-level
       address (AWS puts the interface's primary address there, and nowhere else). Only if all that gives no IPv4 address: the one IPv4
       address that stands in every IPv4 row of the observer, if exactly one does ("several peers"). Never for IPv6, where an interface
       may have several addresses of its own and one peer.
    6. Own side: flow-direction; else, for a regional NAT gateway, see `_side_at_regional_nat`; else the side whose addresses differ, if
       exactly one does; else the side with an own address, if exactly one has; else unknown. Never by private against public.
    7. Kind: the inventory's, else `interface-type` of any row of the interface, else regional_nat_gateway for rows without interface.
    8. A row is in transit if its packet-level local address is foreign to its interface: not an own address, and
       - at a regional NAT gateway: the row is of the inside leg (exactly one end private, or one is of NAT64's range);
       - at an interface of a forwarding or terminating kind: local address and shown address differ;
       - else they differ, and the local one lies outside the subnet's ranges if the inventory has them; if not: another observer
         of the network owns it, or no subnet could be as large as to hold both (/16, IPv6 /44), as with a public and a private address.
       A local address that differs and is not foreign is a pod's or secondary address: the row stands for `pod` and is the interface's own.
    9. Without any `pkt-*` field, at an interface known to forward: a NAT gateway's rows with a private peer, and all rows of a transit
       gateway, hide the packet's other end behind the interface's address. They are in transit; the hidden end is the one that the owners'
       rows of the same peer, ports, protocol and direction show within the clock tolerance, if there is exactly one; else it stays hidden
       and the interface's address stands for it.
    """
    rows = [Row(record, number) for number, record in enumerate(records)]
    _place(rows, known, config, formats)
    _packet_level(rows)
    own = _own_addresses(rows, known)
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        row.owned = frozenset(own[row.observer])
        for address in own[row.observer]:
            owners[row.network, address].add(row.observer)
    remotes = _remotes_of_regional_nats(rows)
    for row in rows:
        if row.has_ends:
            row.own = _own_side(row, own, known, remotes)
            _judge(row, own, known, owners)
    _unhide(rows, own, known, config)
    return rows


def _place(rows: list[Row], known: Known, config: Mapping[str, Any], formats: Mapping[str, Sequence[str]]) -> None:
    with_interface = {row.log for row in rows if row.record.get("interface_id")}
    with_interface |= {log for log, fields in formats.items() if "interface-id" in fields}
    logs_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        row.observer = str(first_of(row.record.get("interface_id"), row.record.get("resource_id"), ""))
        if row.observer:
            logs_of[row.observer].add(row.log)
    first_log = {row.log: row.log for row in rows}
    changed = True
    while changed:
        changed = False
        for logs in logs_of.values():
            smallest = min(first_log[log] for log in logs)
            for log in logs:
                changed |= first_log[log] != smallest
                first_log[log] = smallest
    from_key = {row.log: _account_and_region(row.record) for row in sorted(rows, key=lambda row: -row.number)}
    learned: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        for name in (*PLACES, "interface_type"):
            value = row.record.get(name)
            if value is not None and row.observer and (name, value) != ("account_id", "unknown"):
                learned[row.observer, name].add(value)
    vpcs_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        listed = known.interfaces.get(row.observer, {})
        for name in PLACES:
            value = row.record.get(name)
            if value is None or (name, value) == ("account_id", "unknown"):
                value = min(learned.get((row.observer, name), ()), default=None) or listed.get(name)
            row.place[name] = value
        subnet = known.subnets.get(row.place["subnet_id"] or "", {})
        row.place["vpc_id"] = row.place["vpc_id"] or subnet.get("vpc_id")
        row.place["az_id"] = row.place["az_id"] or subnet.get("az_id")
        row.place["region"] = row.place["region"] or subnet.get("region") or from_key[row.log][1]
        row.place["account_id"] = row.place["account_id"] or from_key[row.log][0]
        if row.place["vpc_id"]:
            vpcs_of[first_log[row.log]].add(row.place["vpc_id"])
    networks = known.networks(config["links"], {vpc for found in vpcs_of.values() for vpc in found})
    for row in rows:
        first = first_log[row.log]
        if row.place["vpc_id"] is None and len(vpcs_of[first]) == 1:
            row.place["vpc_id"] = min(vpcs_of[first])
        vpc = row.place["vpc_id"]
        row.network = networks[vpc] if vpc else "/".join((*from_key[first], first))
        row.kind = known.interfaces.get(row.observer, {}).get("kind") or min(
            learned.get((row.observer, "interface_type"), ()), default=None
        )
        if not row.record.get("interface_id") and (row.record.get("resource_id") or row.log in with_interface):
            row.kind = "regional_nat_gateway"
        row.observer = row.observer or f"@{row.network}"


def _account_and_region(record: Record) -> tuple[str, str]:
    """From the object's key, else from the record."""
    parts = str(record.get("object_key") or "").rsplit("/", 1)[-1].split("_")
    if len(parts) >= 4 and parts[1] == "vpcflowlogs":
        return parts[0], parts[2]
    return record.get("account_id") or "unknown", record.get("region") or ""


def _packet_level(rows: list[Row]) -> None:
    def shown(row: Row) -> tuple[Any, ...]:
        return (row.observer, *(row.record.get(name) for name in ("srcaddr", "dstaddr", "srcport", "dstport", "protocol")))

    richer: dict[tuple[Any, ...], set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if row.record.get("pkt_srcaddr") and row.record.get("pkt_dstaddr"):
            richer[shown(row)].add((row.record["pkt_srcaddr"], row.record["pkt_dstaddr"]))
    for row in rows:
        record = row.record
        source, target = record.get("pkt_srcaddr"), record.get("pkt_dstaddr")
        if source is None and target is None and len(richer[shown(row)]) == 1:
            source, target = next(iter(richer[shown(row)]))
        row.shown_source = record.get("srcaddr") or source
        row.shown_target = record.get("dstaddr") or target
        row.source = End(source or record.get("srcaddr"), record.get("srcport"))
        row.target = End(target or record.get("dstaddr"), record.get("dstport"))


def _differs(row: Row) -> tuple[bool, bool]:
    return row.source.address != row.shown_source, row.target.address != row.shown_target


def _is_inside_leg(row: Row) -> bool:
    """At a regional NAT gateway: one end is on the inside, the other on the internet."""
    ends = (str(row.source.address), str(row.target.address))
    return any(without_nat64(end) != end for end in ends) or is_private(ends[0]) != is_private(ends[1])


def _own_addresses(rows: list[Row], known: Known) -> dict[str, set[str]]:
    own: dict[str, set[str]] = defaultdict(set)
    in_every_row: dict[str, set[str]] = {}
    for row in rows:
        if not row.has_ends:
            continue
        own[row.observer] |= known.interfaces.get(row.observer, {}).get("addresses", set())
        if row.kind == "regional_nat_gateway" and not row.record.get("interface_id"):
            own[row.observer] |= {str(end.address) for end in (row.source, row.target)} & known.public
            if not _is_inside_leg(row):
                own[row.observer] |= _declared(row)
            continue
        own[row.observer] |= _declared(row)
        differs = _differs(row)
        if differs == (True, False):
            own[row.observer].add(str(row.shown_source))
        if differs == (False, True):
            own[row.observer].add(str(row.shown_target))
        pair = {str(row.shown_source), str(row.shown_target)}
        if all(":" not in address for address in pair) and not row.observer.startswith("@"):
            in_every_row[row.observer] = in_every_row.get(row.observer, pair) & pair
    for observer, common in in_every_row.items():
        if len(common) == 1 and not any(":" not in address for address in own[observer]):
            own[observer] |= common
    return own


def _declared(row: Row) -> set[str]:
    way = row.record.get("flow_direction")
    return {str(row.shown_source)} if way == "egress" else {str(row.shown_target)} if way == "ingress" else set()


def _remotes_of_regional_nats(rows: list[Row]) -> dict[str, set[str]]:
    """By regional NAT gateway: the internet's addresses that its inside legs speak with."""
    remotes: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.kind == "regional_nat_gateway" and row.has_ends and _is_inside_leg(row):
            for end in (row.source, row.target):
                if not is_private(without_nat64(str(end.address))):
                    remotes[row.observer].add(without_nat64(str(end.address)))
    return remotes


def _owns(row: Row, address: str, own: Mapping[str, set[str]], known: Known) -> bool:
    return address in own[row.observer] or within(address, known.interfaces.get(row.observer, {}).get("ranges", []))


def _own_side(row: Row, own: Mapping[str, set[str]], known: Known, remotes: Mapping[str, set[str]]) -> str:
    way = row.record.get("flow_direction")
    if way is not None:
        return "src" if way == "egress" else "dst"
    if row.kind == "regional_nat_gateway" and not row.record.get("interface_id"):
        return _side_at_regional_nat(row, own, remotes)
    differs = _differs(row)
    if differs in ((True, False), (False, True)):
        return "src" if differs[0] else "dst"
    mine = tuple(_owns(row, str(address), own, known) for address in (row.shown_source, row.shown_target))
    return {(True, False): "src", (False, True): "dst"}.get(mine, "unknown")


def _side_at_regional_nat(row: Row, own: Mapping[str, set[str]], remotes: Mapping[str, set[str]]) -> str:
    """The gateway stands between client and internet: inside legs turn their internet side to it. Outside, its own address is one that it
    is known to own, else the one that is not among the remotes of its inside legs while the other is."""
    source, target = str(row.source.address), str(row.target.address)
    if _is_inside_leg(row):
        from_inside = without_nat64(target) != target or is_private(source)
        return "dst" if from_inside else "src"
    for mine in (
        tuple(address in own[row.observer] for address in (source, target)),
        tuple(address in remotes[row.observer] for address in (target, source)),
    ):
        if mine[0] != mine[1]:
            return "src" if mine[0] else "dst"
    return "unknown"


def _judge(row: Row, own: Mapping[str, set[str]], known: Known, owners: Mapping[tuple[str, str], set[str]]) -> None:
    if row.own == "unknown":
        return
    row.role = SENDER if row.own == "src" else RECEIVER
    local, shown = str(row.local.address), str(row.shown_local)
    if row.kind == "regional_nat_gateway" and not row.record.get("interface_id"):
        foreign = _is_inside_leg(row) and local not in own[row.observer]
    elif local == shown or _owns(row, local, own, known):
        foreign = False
    elif row.kind in FORWARDING or row.kind in TERMINATING:
        foreign = True
    else:
        foreign = _is_foreign(row, local, shown, known, owners)
        row.stands_for = None if foreign else "pod"
    if foreign:
        row.role = TRANSIT
        row.stands_for = row.kind if row.kind in FORWARDING or row.kind in TERMINATING else None
        if row.stands_for is None:
            row.stands_for = "other" if row.place["instance_id"] else "transit_gateway" if is_private(local) else "nat_gateway"


def _is_foreign(row: Row, local: str, shown: str, known: Known, owners: Mapping[tuple[str, str], set[str]]) -> bool:
    ranges = known.subnets.get(row.place["subnet_id"] or "", {}).get("cidrs", [])
    if ranges:
        return not within(local, ranges)
    return bool(owners.get((row.network, local), set()) - {row.observer}) or too_far_for_a_subnet(local, shown)


def _unhide(rows: list[Row], own: Mapping[str, set[str]], known: Known, config: Mapping[str, Any]) -> None:
    def hidden(row: Row) -> bool:
        bare = row.record.get("pkt_srcaddr") is None and row.record.get("pkt_dstaddr") is None
        forwards = row.kind == "transit_gateway" or (
            row.kind == "nat_gateway" and row.own != "unknown" and is_private(str(row.peer.address))
        )
        plain = _differs(row) == (False, False) and row.record.get("interface_id") is not None
        return row.has_ends and bare and plain and forwards and row.own != "unknown"

    veiled = [row for row in rows if hidden(row)]
    tolerance = config["clock_tolerance"]
    for row in veiled:
        row.role, row.stands_for = TRANSIT, row.kind
    for row in veiled:
        candidates = set()
        for other in rows:
            if other.role == TRANSIT or not other.has_ends or other.network != row.network or other.observer == row.observer:
                continue
            near = other.start <= row.end + tolerance and row.start <= other.end + tolerance
            same = other.record.get("protocol") == row.record.get("protocol")
            mine, peer = (other.source, other.target) if row.own == "src" else (other.target, other.source)
            if near and same and peer == row.peer and mine.port == row.local.port and mine.address != row.local.address:
                candidates.add(mine)
        if len(candidates) == 1:
            if row.own == "src":
                row.source = candidates.pop()
            else:
                row.target = candidates.pop()
