"""What a day's records betray of the interfaces that captured them: a batch of records reduced to a few rows per interface and flow log.

In: columns `SURVEYED` of table `records`. Out: rows of `SURVEY`, which `interfaces.merge` joins over all batches of a day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import is_private, unpacked, without_nat64
from flowlog_udfs.columns import Flags, Groups, Ints, as_array, codes, equals, numbers, texts
from flowlog_udfs.ends import Ends
from flowlog_udfs.fields import ACCEPT, EGRESS, INGRESS, REJECT, SKIPDATA
from flowlog_udfs.sorting import distinct, sort_by
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
    "bytes",
    "action",
    "log_status",
    "start",
    "end",
)
"""The columns of `records` that a survey reads."""

NAMED = ("account_id", "region", "interface_id", "resource_id", "vpc_id", "subnet_id", "az_id", "instance_id", "interface_type")
"""What stays the same for an interface all day; of values that differ the least counts, so that no order of rows matters."""

SHORTEST_GAP = 120
"""Silence of so many seconds always counts as covered: two intervals of a minute."""

_STRETCH = pa.struct([("start", pa.int64()), ("end", pa.int64())])
SURVEY = pa.schema(
    [
        ("observer", pa.string()),
        ("flow_log_id", pa.string()),
        *((name, pa.string()) for name in NAMED),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("stretches", pa.list_(_STRETCH)),  # when the flow log covered the interface
        ("longest", pa.int64()),  # seconds of the longest interval
        ("accepts", pa.bool_()),
        ("rejects", pa.bool_()),
        ("every_flag", pa.bool_()),
        ("declared", pa.list_(pa.string())),  # own addresses, by flow-direction and by where packet-level addresses differ
        ("constant", pa.list_(pa.string())),  # IPv4 addresses that stand in every row
        ("has_ipv4", pa.bool_()),
        ("remotes", pa.list_(pa.string())),  # of a regional NAT gateway's inside legs: addresses on the internet
    ]
)


def observers(records: pa.Table) -> pa.Array:
    """The observer of each record: its interface, else a regional NAT gateway by its resource id, else `@VPC/subnet` (or `@flow log/`)."""
    interface, resource, vpc, flow_log, subnet = (
        as_array(records.column(name)).cast(pa.string()) for name in ("interface_id", "resource_id", "vpc_id", "flow_log_id", "subnet_id")
    )
    if interface.null_count == 0:
        return interface
    nameless = pc.binary_join_element_wise(pc.binary_join_element_wise("@", pc.coalesce(vpc, flow_log), ""), pc.fill_null(subnet, ""), "/")
    return pc.coalesce(interface, resource, nameless)


def survey(records: pa.Table, names_interfaces: frozenset[str]) -> pa.Table:
    """Reduce a batch of records to rows of `SURVEY`; `names_interfaces` are the flow logs whose format has `interface-id`."""
    observer, observer_names = codes(observers(records))
    flow_log, flow_log_names = codes(records.column("flow_log_id"))
    start, end = numbers(records.column("start"), -1), numbers(records.column("end"), -1)
    order = sort_by(observer, flow_log, start)
    observer, flow_log, start, end = observer[order], flow_log[order], start[order], end[order]
    records = records.take(pa.array(order))
    groups = Groups.of(observer, flow_log)
    first = groups.starts
    knows = np.array([name in names_interfaces for name in flow_log_names.to_pylist()], dtype=bool)
    is_regional = np.asarray(records.column("interface_id").is_null()) & (
        np.asarray(records.column("resource_id").is_valid()) | knows[flow_log]
    )
    covers = ~equals(records.column("log_status"), SKIPDATA) & (start >= 0) & (end >= start)
    result = {
        "observer": texts(observer[first], observer_names),
        "flow_log_id": texts(flow_log[first], flow_log_names),
        **{name: _least(records.column(name), groups) for name in NAMED},
        "rows": groups.sizes,
        "bytes": groups.sum(numbers(records.column("bytes"), 0)),
        "stretches": _stretches(groups, covers, start, end),
        "longest": groups.max(np.where(covers, end - start, 0)),
        "accepts": groups.any(equals(records.column("action"), ACCEPT)),
        "rejects": groups.any(equals(records.column("action"), REJECT)),
        "every_flag": groups.any(shows_every_flag(numbers(records.column("tcp_flags"), -1))),
        **_addresses(records, groups, is_regional),
    }
    return pa.table([_as(result[column.name], column.type) for column in SURVEY], schema=SURVEY)


def _as(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _least(column: pa.ChunkedArray, groups: Groups) -> pa.Array:
    """The least text of each group: nearly always the only one."""
    chosen, words = codes(column)
    in_order = np.argsort(np.array(words.to_pylist(), dtype=object)) if len(words) else np.zeros(0, np.int64)
    rank = np.empty(len(words) + 1, np.int64)
    rank[in_order] = np.arange(len(words))
    rank[-1] = len(words)
    best = groups.min(rank[chosen])
    return texts(np.append(in_order, -1)[best], words)


def _stretches(groups: Groups, covers: Flags, start: Ints, end: Ints) -> pa.ListArray:
    """The time covered, in maximal runs; lost records (SKIPDATA) and rows without times cover nothing."""
    ids, begins, until = groups.ids[covers], start[covers], end[covers]
    reach = Groups.of(ids).running_max(until)
    breaks = np.ones(len(ids), dtype=bool)
    breaks[1:] = (ids[1:] != ids[:-1]) | (begins[1:] > reach[:-1] + SHORTEST_GAP)
    runs = np.flatnonzero(breaks)
    last = np.maximum.reduceat(until, runs) if len(runs) else until
    offsets = np.searchsorted(ids[runs], np.arange(len(groups) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays([begins[runs], last], names=["start", "end"]))


def _addresses(records: pa.Table, groups: Groups, is_regional: Flags) -> dict[str, object]:
    """What addresses tell of the interface: those declared its own, those in every row, those on the far side of a regional gateway."""
    ends = Ends.of(records)
    own = np.where(equals(records.column("flow_direction"), EGRESS), ends.shown_source, -1)
    own = np.where(equals(records.column("flow_direction"), INGRESS), ends.shown_target, own)
    # AWS writes the interface's own address where a packet-level address of its side differs, and nowhere else.
    by_packet = np.where(ends.source_differs & ~ends.target_differs, ends.shown_source, -1)
    by_packet = np.where(ends.target_differs & ~ends.source_differs, ends.shown_target, by_packet)
    remotes: list[list[str]] = [[] for _ in range(len(groups))]
    if is_regional.any():
        inside = is_regional & ends.both & ends.of_inside_leg
        own, by_packet = np.where(inside, -1, own), np.where(is_regional, -1, by_packet)
        plain = without_nat64(*ends.packed)
        beyond = np.append(~is_private(*plain), False)
        far = [np.where(inside & beyond[end], end, -1) for end in (ends.source, ends.target)]
        remotes = _distinct(groups, far, unpacked(*plain))
    constant, has_ipv4 = _constant(groups, ends)
    return {"declared": _distinct(groups, (own, by_packet), ends.words), "constant": constant, "has_ipv4": has_ipv4, "remotes": remotes}


def _constant(groups: Groups, ends: Ends) -> tuple[list[list[str]], Flags]:
    """By group the IPv4 addresses that stand in every row of that family, and whether there is such a row."""
    lists: list[list[str]] = [[] for _ in range(len(groups))]
    is_v4 = ends.ipv4[ends.shown_source] & ends.ipv4[ends.shown_target]
    at = np.flatnonzero(is_v4)
    runs = Groups.of(groups.ids[at])
    first = at[runs.starts]
    for candidate in (ends.shown_source[first], ends.shown_target[first]):
        expected = runs.spread(candidate)
        holds = runs.all((ends.shown_source[at] == expected) | (ends.shown_target[at] == expected))
        for group, word in zip(groups.ids[first][holds], candidate[holds], strict=True):
            lists[group].append(ends.words[word].as_py())
    return lists, groups.any(is_v4)


def _distinct(groups: Groups, columns: Sequence[Ints], words: pa.Array) -> list[list[str]]:
    """The distinct words of each group and column, absent ones (-1) left out."""
    lists: list[list[str]] = [[] for _ in range(len(groups))]
    for column in columns:
        at = np.flatnonzero(column >= 0)
        (found, coded), _ = distinct(groups.ids[at], column[at])
        for group, word in zip(found, coded, strict=True):
            lists[group].append(words[word].as_py())
    return lists
