"""Who observed: every capturing interface of a day, what it belongs to, which address is its own, and whether it forwards for others.

Surveyed in two steps: `survey` reduces a batch of records to a few rows per interface and flow log, `merge` joins those of all batches,
with the inventory's word where there is one. An interface is known by its id; a regional NAT gateway, which has none, by its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import is_ipv4, packed
from flowlog_udfs.columns import Groups, Ints, as_array, codes, numbers, shared_codes, sort_by, texts
from flowlog_udfs.fields import ACCEPT, EGRESS, INGRESS, REJECT, SKIPDATA
from flowlog_udfs.inventory import FORWARDING_KINDS, REGIONAL_NAT_GATEWAY, TERMINATING_KINDS, Inventory
from flowlog_udfs.tcp_flags import shows_every_flag

SURVEYED = (
    "flow_log_id",
    "account_id",
    "region",
    "interface_id",
    "resource_id",
    "vpc_id",
    "subnet_id",
    "az_id",
    "instance_id",
    "interface_type",
    "srcaddr",
    "dstaddr",
    "pkt_srcaddr",
    "pkt_dstaddr",
    "flow_direction",
    "tcp_flags",
    "action",
    "log_status",
    "start",
    "end",
)
"""The columns of `records` that a survey reads."""

_NAMED = ("account_id", "region", "vpc_id", "subnet_id", "az_id", "instance_id", "interface_type", "resource_id")
_STRETCH = pa.struct([("start", pa.int64()), ("end", pa.int64())])
SURVEY = pa.schema(
    [
        ("observer", pa.string()),
        ("flow_log_id", pa.string()),
        *((name, pa.string()) for name in _NAMED),
        ("stretches", pa.list_(_STRETCH)),  # when the flow log covered the interface
        ("accepts", pa.bool_()),
        ("rejects", pa.bool_()),
        ("every_flag", pa.bool_()),
        ("declared", pa.list_(pa.string())),  # own addresses, by flow-direction
        ("constant", pa.list_(pa.string())),  # addresses that stand in every row of their family
        ("families", pa.int64()),  # 4, 6 or both as bits 1 and 2
        ("carried_for", pa.list_(pa.string())),  # addresses on whose side packet-level addresses of another network stand
    ]
)

SHORTEST_GAP, LONGEST_GAP = 120, 660
"""Silence that still counts as covered, in seconds: an interval and a minute, for intervals of 60 to 600 s."""


def observers(records: pa.Table) -> pa.Array:
    """The observer of each record: interface id, else regional NAT gateway, else the flow log itself."""
    return pc.coalesce(*(as_array(records.column(name)).cast(pa.string()) for name in ("interface_id", "resource_id", "flow_log_id")))


def survey(records: pa.Table) -> pa.Table:
    """Reduce a batch of records to rows of `SURVEY`."""
    observer, observer_names = codes(observers(records))
    flow_log, flow_log_names = codes(records.column("flow_log_id"))
    start, end = numbers(records.column("start"), -1), numbers(records.column("end"), -1)
    order = sort_by(observer, flow_log, start)
    observer, flow_log, start, end = observer[order], flow_log[order], start[order], end[order]
    records = records.take(pa.array(order))
    groups = Groups.of(observer, flow_log)
    first = groups.starts
    action, actions = codes(records.column("action"))
    words = actions.to_pylist()
    every_flag = shows_every_flag(numbers(records.column("tcp_flags"), -1))
    declared, constant, families = _own_addresses(records, groups)
    result = {
        "observer": texts(observer[first], observer_names),
        "flow_log_id": texts(flow_log[first], flow_log_names),
        **{name: _greatest(records.column(name), groups) for name in _NAMED},
        "stretches": _stretches(records, groups, start, end),
        "accepts": groups.any(action == words.index(ACCEPT)) if ACCEPT in words else np.zeros(len(groups), bool),
        "rejects": groups.any(action == words.index(REJECT)) if REJECT in words else np.zeros(len(groups), bool),
        "every_flag": groups.any(every_flag),
        "declared": declared,
        "constant": constant,
        "families": families,
        "carried_for": _carried_for(records, groups),
    }
    return pa.table([_as(result[column.name], column.type) for column in SURVEY], schema=SURVEY)


def _as(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _greatest(column: pa.ChunkedArray, groups: Groups) -> pa.Array:
    """The greatest text of each group: nearly always the only one, and the same in whatever order rows come."""
    chosen, words = codes(column)
    rank = np.argsort(np.argsort(np.array(words.to_pylist(), dtype=object))) if len(words) else np.zeros(0, np.int64)
    best = groups.max(np.where(chosen >= 0, np.append(rank, -1)[chosen], -1))
    by_rank = np.append(np.argsort(rank), -1) if len(words) else np.array([-1])
    return texts(by_rank[best], words)


def _stretches(records: pa.Table, groups: Groups, start: Ints, end: Ints) -> list[list[dict[str, int]]]:
    """The time covered, in maximal runs; lost records (SKIPDATA) and rows without times cover nothing."""
    status, words = codes(records.column("log_status"))
    skipped = status == words.to_pylist().index(SKIPDATA) if SKIPDATA in words.to_pylist() else np.zeros(len(status), bool)
    covers = ~skipped & (start >= 0) & (end >= start)
    length = groups.max(np.where(covers, end - start, 0))
    gap = groups.spread(np.clip(length + 60, SHORTEST_GAP, LONGEST_GAP))
    ids, begins, until, gap = groups.ids[covers], start[covers], end[covers], gap[covers]
    kept = Groups.of(ids)
    reach = kept.running_max(until)
    breaks = np.ones(len(ids), dtype=bool)
    breaks[1:] = (ids[1:] != ids[:-1]) | (begins[1:] > reach[:-1] + gap[1:])
    runs = np.flatnonzero(breaks)
    lists: list[list[dict[str, int]]] = [[] for _ in range(len(groups))]
    if len(runs):
        for owner, first, last in zip(ids[runs], begins[runs], np.maximum.reduceat(until, runs), strict=True):
            lists[owner].append({"start": int(first), "end": int(last)})
    return lists


def _own_addresses(records: pa.Table, groups: Groups) -> tuple[list[list[str]], list[list[str]], Ints]:
    """By group: addresses that flow-direction declares the interface's own, those in every row of their family, and the families."""
    (source, target), words = shared_codes(records.column("srcaddr"), records.column("dstaddr"))
    direction, directions = codes(records.column("flow_direction"))
    names = directions.to_pylist()
    own = np.full(len(source), -1)
    for name, side in ((EGRESS, source), (INGRESS, target)):
        if name in names:
            own = np.where(direction == names.index(name), side, own)
    ids = groups.ids
    declared: list[list[str]] = [[] for _ in range(len(groups))]
    for group, word in np.unique(np.column_stack([ids, own])[own >= 0], axis=0):
        declared[group].append(words[word].as_py())
    ended = (source >= 0) & (target >= 0)
    is_v4 = is_ipv4(*packed(words)) if len(words) else np.zeros(0, bool)
    family = np.where(ended, np.where(np.append(is_v4, False)[source], 0, 1), 2)
    order = sort_by(ids, family)
    order = order[family[order] < 2]
    by_family = Groups.of(ids[order], family[order])
    constant: list[list[str]] = [[] for _ in range(len(groups))]
    families = np.zeros(len(groups), np.int64)
    if len(order):
        first = order[by_family.starts]
        families = np.bincount(ids[first], weights=1 << family[first], minlength=len(groups)).astype(np.int64)
        for candidate in (source[first], target[first]):
            expected = by_family.spread(candidate)
            holds = by_family.all((source[order] == expected) | (target[order] == expected))
            for group, word in zip(ids[first][holds], candidate[holds], strict=True):
                constant[group].append(words[word].as_py())
    return declared, constant, families


def _carried_for(records: pa.Table, groups: Groups) -> list[list[str]]:
    """Addresses as logged whose packet-level counterpart lies outside any subnet that could hold both.

    No subnet of a VPC is larger than /16 (AWS, "Subnet CIDR blocks") or, for IPv6, /44. A pod's or secondary address lies in its
    interface's subnet; what a NAT or transit gateway forwards does not.
    """
    lists: list[list[str]] = [[] for _ in range(len(groups))]
    for logged, packet in (("srcaddr", "pkt_srcaddr"), ("dstaddr", "pkt_dstaddr")):
        if records.column(packet).null_count == records.num_rows:
            continue
        (here, there), words = shared_codes(records.column(logged), records.column(packet))
        differs = np.flatnonzero((here >= 0) & (there >= 0) & (here != there))
        if not len(differs):
            continue
        high, low = packed(words)
        block = np.where(is_ipv4(high, low), (low >> np.uint64(16)) & np.uint64(0xFFFF), high >> np.uint64(20))
        far = differs[(block[here[differs]] != block[there[differs]])]
        for group, word in np.unique(np.column_stack([groups.ids[far], here[far]]), axis=0):
            lists[group].append(words[word].as_py())
    return lists


@dataclass
class Interface:
    """One observer of the day; texts are None where nothing says."""

    observer: str
    named: dict[str, str | None] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    kind: str | None = None
    forwards: bool = False
    flow_logs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def is_proxy(self) -> bool:
        """Whether it ends connections for others: a load balancer, an endpoint, or a NAT."""
        return self.forwards or self.kind in TERMINATING_KINDS


@dataclass(frozen=True)
class FlowLogTraits:
    """What the whole day's rows of a flow log betray: which actions it captures, and whether it shows every TCP flag."""

    accepts: bool
    rejects: bool
    every_flag: bool


@dataclass(frozen=True)
class Survey:
    """The interfaces of a day by observer, and the traits of its flow logs."""

    interfaces: dict[str, Interface]
    flow_logs: dict[str, FlowLogTraits]


def merge(surveys: Iterable[pa.Table], inventory: Inventory | None = None) -> Survey:
    """Join the surveys of all batches of a day.

    An address is an interface's own if the inventory or flow-direction says so, or if it stands in every row of its family while the other
    end varies; with one peer and nothing else it stays unknown.
    """
    rows_of: dict[str, list[dict[str, object]]] = defaultdict(list)
    traits: dict[str, list[bool]] = defaultdict(lambda: [False, False, False])
    for table in surveys:
        for row in table.to_pylist():
            rows_of[row["observer"]].append(row)
            for place, trait in enumerate(("accepts", "rejects", "every_flag")):
                traits[row["flow_log_id"]][place] |= row[trait]
    known = {interface.interface_id: interface for interface in inventory.interfaces} if inventory else {}
    zones = {subnet.subnet_id: subnet for subnet in inventory.subnets} if inventory else {}
    interfaces = {}
    for observer, rows in sorted(rows_of.items()):
        one = Interface(observer)
        one.named = {name: max((str(row[name]) for row in rows if row[name] is not None), default=None) for name in _NAMED}
        stretches: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in rows:
            stretches[str(row["flow_log_id"])] += [(s["start"], s["end"]) for s in row["stretches"]]  # type: ignore[attr-defined]
        one.flow_logs = {name: _joined(found) for name, found in sorted(stretches.items())}
        listed = known.get(observer)
        declared = {address for row in rows for address in row["declared"]}  # type: ignore[attr-defined]
        if listed:
            one.own = frozenset((*listed.addresses, *listed.ipv6_addresses))
            one.kind = listed.kind
            subnet = zones.get(listed.subnet_id or "")
            one.named |= {
                "vpc_id": one.named["vpc_id"] or listed.vpc_id,
                "subnet_id": one.named["subnet_id"] or listed.subnet_id,
                "az_id": one.named["az_id"] or (subnet.az_id if subnet else None),
                "region": one.named["region"] or (subnet.region if subnet else None),
            }
        else:
            one.own = frozenset(declared) or _constant(rows)
            one.kind = one.named["interface_type"]
        if one.named["resource_id"]:
            one.kind = one.kind or REGIONAL_NAT_GATEWAY
        carried_for = {address for row in rows for address in row["carried_for"]}  # type: ignore[attr-defined]
        one.forwards = one.kind in FORWARDING_KINDS or (one.kind not in TERMINATING_KINDS and bool(one.own & carried_for))
        interfaces[observer] = one
    return Survey(interfaces, {name: FlowLogTraits(*found) for name, found in traits.items()})


def _constant(rows: list[dict[str, object]]) -> frozenset[str]:
    """Addresses in every row of their family, where they are the only such address of it."""
    own = set()
    for is_v6 in (False, True):
        bit = 2 if is_v6 else 1
        sets = [{a for a in row["constant"] if (":" in a) == is_v6} for row in rows if int(row["families"]) & bit]  # type: ignore
        common = set.intersection(*sets) if sets else set()
        if len(common) == 1:
            own |= common
    return frozenset(own)


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches in order, those that touch or overlap made one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1] + SHORTEST_GAP:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
