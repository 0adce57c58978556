"""Scans and sweeps: one initiator whose connections do not come about, at many ports of one host or at one port of many hosts.

In: columns of `connections`. Between: rows of `TOUCHED`, each (initiator, responder, port) once a batch, which a shuffle brings together by
initiator. Out: rows of `gathering.FOUND`. What an exception in force covers does not count: what remains decides whether there is a scan or
sweep, and one that there is only with what is covered stays listed under the exception. Balancers' nodes and AWS's own services, health
checkers among them, ask many hosts by trade and are left out. An initiator on the internet is one wherever it is met; an own address is
told apart by its network.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Groups, Ints, codes, equals, mixed, numbers, ranked, text_hashes, texts
from flowlog_udfs.policy.gathering import EXAMPLE, EXAMPLE_COLUMNS, EXAMPLES, FOUND, cast
from flowlog_udfs.policy.matching import PROTOCOL_NAMES, Judge, micros_of
from flowlog_udfs.policy.model import Spread
from flowlog_udfs.policy.segments import OWN_SCOPES, in_scopes, waived
from flowlog_udfs.sorting import sort_by

FRUITLESS = ("rejected", "unanswered", "refused_by_host")
_TEXT = pa.dictionary(pa.int32(), pa.string())
_IDENTITY = ("home", "initiator_addr", "responder_vpc_id", "responder_account_id", "responder_addr")
TOUCHED = pa.schema(
    [
        *((name, _TEXT) for name in _IDENTITY),  # `home`: the initiator's VPC where it is own
        ("protocol", pa.int32()),
        ("responder_port", pa.int32()),
        ("initiator_port", pa.int32()),  # of the first connection, like the four that follow
        ("first_start", pa.int64()),  # microseconds, -1 without
        ("state", _TEXT),
        ("basis", _TEXT),
        ("initiator_scope", _TEXT),
        ("connections", pa.int64()),
        ("refused", pa.int64()),  # of these, by rules of ours
        ("bytes_sent", pa.int64()),
        ("bytes_received", pa.int64()),
        ("last_end", pa.int64()),
    ]
)
_SUMS = {"connections": "connections", "sent": "bytes_sent", "received": "bytes_received"}


def touches(connections: pa.Table, judge: Judge) -> pa.Table:
    """Rows of `TOUCHED` for a batch of connections."""
    fruitless = np.zeros(connections.num_rows, dtype=bool)
    for state in FRUITLESS:
        fruitless |= equals(connections.column("state"), state)
    fruitless &= numbers(connections.column("responder_port"), -1) > 0
    fruitless &= ~equals(connections.column("initiator_kind"), "proxy") & ~in_scopes(connections, "initiator", ("aws-service",))
    chosen = connections.take(pa.array(np.flatnonzero(fruitless & judge.sure(connections))))
    own = in_scopes(chosen, "initiator", OWN_SCOPES)
    home, homes = codes(chosen.column("initiator_vpc_id"))
    coded = {name: codes(chosen.column(name)) for name in _IDENTITY[1:]} | {"home": (np.where(own, home, -1), homes)}
    ports = (numbers(chosen.column("protocol"), -1), numbers(chosen.column("responder_port"), -1))
    start, end = micros_of(chosen, "first_start"), micros_of(chosen, "last_end")
    keys = [*(coded[name][0] for name in _IDENTITY), *ports]
    order = sort_by(*keys, start, numbers(chosen.column("connection_id"), 0))
    groups = Groups.of(*(key[order] for key in keys))
    first = order[groups.starts]
    columns = {
        **{name: texts(coded[name][0][first], coded[name][1]) for name in _IDENTITY},
        "protocol": ports[0][first],
        "responder_port": ports[1][first],
        **{name: chosen.column(name).take(pa.array(first)) for name in ("initiator_port", "state", "basis", "initiator_scope")},
        "first_start": start[first],
        "connections": groups.sizes,
        "refused": groups.sum(equals(chosen.column("state"), "rejected")[order]),
        **{name: groups.sum(numbers(chosen.column(name), 0)[order]) for name in ("bytes_sent", "bytes_received")},
        "last_end": groups.max(end[order]),
    }
    return pa.table([cast(columns[field.name], field.type) for field in TOUCHED], schema=TOUCHED)


def initiator_hashes(touched: pa.Table) -> npt.NDArray[np.uint64]:
    """What rows of one initiator share."""
    hashed = []
    for name in ("home", "initiator_addr"):
        code, words = codes(touched.column(name))
        hashed.append(np.append(text_hashes(words), np.uint64(0))[code].view(np.int64))
    return mixed(*hashed)


def spread_out(touched: pa.Table, judge: Judge) -> pa.Table:
    """Rows of `FOUND` from all rows of `TOUCHED` of some initiators, in any order."""
    found = [FOUND.empty_table()]
    for number, rule in judge.numbered(Spread):
        assert isinstance(rule.what, Spread)
        found.append(_spread(touched, number, rule.what, judge))
    return pa.concat_tables(found)


def _spread(touched: pa.Table, number: int, what: Spread, judge: Judge) -> pa.Table:
    coded = {name: codes(touched.column(name)) for name in _IDENTITY}
    rank = {name: ranked(*coded[name]) for name in _IDENTITY}
    protocol, port = numbers(touched.column("protocol"), -1), numbers(touched.column("responder_port"), -1)
    host = [rank["responder_vpc_id"], rank["responder_addr"]]
    if what.over == "hosts":
        keys, many = [rank["home"], rank["initiator_addr"], protocol, port], host
    else:
        keys, many = [rank["home"], rank["initiator_addr"], *host], [protocol, port]
    order = sort_by(*keys, *many, numbers(touched.column("first_start"), -1))
    groups = Groups.of(*(key[order] for key in keys))
    points = Groups.of(groups.ids, *(one[order] for one in many))
    # All of a point is covered by the same exception: its scope looks at nothing that keys and point do not tell.
    waiver, ahead = _exceptions(touched, number, judge)
    at_point, of_group = waiver[order][points.starts], groups.ids[points.starts]
    wide = np.bincount(of_group, minlength=len(groups))
    rows = []
    for g in np.flatnonzero(wide >= what.least):
        mine = slice(int(groups.starts[g]), int(groups.starts[g] + groups.sizes[g]))
        at_mine = at_point[slice(*np.searchsorted(of_group, (g, g + 1)))]
        for chosen, place in _parts(at_mine, what.least, judge):
            of_part = order[mine][np.isin(waiver[order[mine]], chosen)]
            counted = int(np.isin(at_mine, chosen).sum())
            rows.append(
                _found(touched.take(pa.array(of_part)), counted, number, what) | {"waiver": place, "ahead": int(ahead[of_part].max())}
            )
    return pa.Table.from_pylist(rows, FOUND)


def _exceptions(touched: pa.Table, number: int, judge: Judge) -> tuple[Ints, Ints]:
    """The exception that covers each row, and one that lies ahead: their places in the policy, -1 for none."""
    vpc, vpcs = codes(touched.column("responder_vpc_id"))
    rule, names = judge.policy.rules[number].id, vpcs.to_pylist()
    begun, ahead = judge.policy.waivers_of(rule, judge.day), judge.policy.waivers_ahead(rule, judge.day)
    return waived(touched, begun, vpc, names), waived(touched, ahead, vpc, names)


def _parts(waivers: Ints, least: int, judge: Judge) -> list[tuple[list[int], int]]:
    """What a scan or sweep comes to, from the exception (-1 for none) at each of its points.

    Each part by the exceptions whose points it counts, and the one that it stands under. Points under exceptions in force do not count;
    where there are enough only with them, all of it is listed under the first of these. Those that have expired count, and the finding is
    theirs if it took their points.
    """
    places = sorted(set(waivers.tolist()))
    covered = [place for place in places if judge.policy.in_force(place, judge.day)]
    open_ones = [place for place in places if place not in covered]
    if np.isin(waivers, open_ones).sum() < least:
        return [(places, covered[0])]
    expired = [place for place in open_ones if place >= 0]
    parts = [(open_ones, expired[0] if expired and (waivers == -1).sum() < least else -1)]
    if np.isin(waivers, covered).sum() >= least:
        parts.append((covered, covered[0]))
    return parts


def _found(mine: pa.Table, wide: int, number: int, what: Spread) -> dict[str, object]:
    """One scan or sweep: `wide` ports or hosts in `mine`."""
    start = numbers(mine.column("first_start"), -1)
    by_port = (numbers(mine.column(name), -1) for name in ("responder_port", "initiator_port"))
    order = sort_by(start, ranked(*codes(mine.column("responder_addr"))), *by_port)
    earliest = mine.take(pa.array(order[:EXAMPLES])).to_pylist()
    one = earliest[0]
    vpcs, accounts = (sorted(filter(None, mine.column(name).unique().to_pylist())) for name in ("responder_vpc_id", "responder_account_id"))
    service = f"{PROTOCOL_NAMES.get(one['protocol'], one['protocol'])}/{one['responder_port']}"
    return {
        "rule": number,
        "account_id": accounts[0] if accounts else None,
        "vpc_id": vpcs[0] if len(vpcs) == 1 else None,
        "subject": f"{one['initiator_addr']} → {service if what.over == 'hosts' else one['responder_addr']}",
        "vpc_ids": vpcs,
        "peers": wide,
        **{name: int(numbers(mine.column(column), 0).sum()) for name, column in _SUMS.items()},
        "first_seen": int(start[start >= 0].min(initial=np.iinfo(np.int64).max)),
        "last_seen": int(numbers(mine.column("last_end"), -1).max()),
        "examples": [_example(row) for row in earliest],
    }


def _example(row: dict[str, object]) -> dict[str, object]:
    start = row["first_start"]
    return {name: row[name] for name, _ in EXAMPLE_COLUMNS} | {
        "first_start": None if start == -1 else pa.scalar(start, EXAMPLE.field("first_start").type).as_py()
    }
