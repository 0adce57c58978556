"""A day against the days before it: subnets that sent far more to the internet, and external peers that a sensitive segment had not met.

In: table `subnet_bytes` of the day and of earlier ones, and the external peers of sensitive segments. Out: rows for `findings`.
Days that no run has made are unknown, not days without traffic; without enough known days nothing is found and nothing assessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import pyarrow as pa

from flowlog_udfs.policy.findings import Found, found
from flowlog_udfs.policy.matching import PEER_SIGN, Judge
from flowlog_udfs.policy.model import FirstSeen, Volume
from flowlog_udfs.policy.segments import INTERNET_SCOPES
from flowlog_udfs.tables import Table

Subnet = tuple[str | None, str | None, str]
"""Account, VPC and subnet."""
EXTERNAL_PEERS = pa.schema(
    [
        *((name, pa.string()) for name in ("segment", "account_id", "vpc_id", "peer_addr")),
        ("connections", pa.int64()),
        ("bytes_sent", pa.int64()),
        ("bytes_received", pa.int64()),
    ]
)
EXTERNAL_PEERS_TABLE = Table("external_peers", EXTERNAL_PEERS, ("segment",))
SUBNET_COLUMNS = ("account_id", "vpc_id", "subnet_id", "direction", "peer_scope", "action", "bytes")
"""The columns of `subnet_bytes` that are needed."""


def sent_to_internet(totals: Iterable[pa.Table]) -> Counter[Subnet]:
    """Accepted bytes that each subnet sent to the internet; `totals` are tables of `SUBNET_COLUMNS`."""
    sent: Counter[Subnet] = Counter()
    for table in totals:
        summed = table.group_by(list(SUBNET_COLUMNS[:-1])).aggregate([("bytes", "sum")])
        for row in summed.to_pylist():
            if (row["direction"], row["action"]) == ("out", "ACCEPT") and row["peer_scope"] in INTERNET_SCOPES and row["subnet_id"]:
                sent[row["account_id"], row["vpc_id"], row["subnet_id"]] += row["bytes_sum"]
    return sent


def large_transfers(judge: Judge, today: Mapping[Subnet, int], before: Sequence[Mapping[Subnet, int]]) -> list[Found]:
    """Subnets that sent more than a `Volume` rule lets pass; `before` are the days before that are known, the newest first."""
    rows = []
    for number, rule in judge.numbered(Volume):
        assert isinstance(rule.what, Volume)
        days = before[: rule.what.days]
        if len(days) < rule.what.least_days:
            continue
        for (account, vpc, subnet), sent in sorted(today.items(), key=repr):
            usual = int(median(day.get((account, vpc, subnet), 0) for day in days))
            if sent > rule.what.factor * usual and sent - usual > rule.what.least_bytes:
                told = f"sent {sent:,} bytes to the internet, {usual:,} on the median of {len(days)} days before"
                rows.append(found(number, subnet, told, vpc_ids=[vpc] if vpc else [], account_id=account, sent=sent))
    return rows


def external_peers(rows: Iterable[Found]) -> pa.Table:
    """Rows of `EXTERNAL_PEERS` from connections of sensitive segments with the internet, one for each segment, VPC and peer."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (*peer_of(row)[:1], row["account_id"], row["vpc_id"], *peer_of(row)[1:])
        one = kept.setdefault(key, dict(zip(EXTERNAL_PEERS.names, (*key, 0, 0, 0), strict=True)))
        for name, of in (("connections", "connections"), ("bytes_sent", "sent"), ("bytes_received", "received")):
            one[name] += row[of]
    return pa.Table.from_pylist([kept[key] for key in sorted(kept, key=repr)], EXTERNAL_PEERS)


def peer_of(row: Found) -> tuple[str, str]:
    """The segment and the peer that a row of a `FirstSeen` rule is about."""
    segment, _, peer = row["subject"].rpartition(PEER_SIGN)
    return segment, peer


def first_seen(judge: Judge, rows: Sequence[Found], before: Sequence[set[tuple[str, str]]]) -> list[Found]:
    """Of the rows of external peers those that no day before knew; `before` are the (segment, peer) of the days before, newest first."""
    result = []
    for number, rule in judge.numbered(FirstSeen):
        assert isinstance(rule.what, FirstSeen)
        days = before[: rule.what.days]
        known = set().union(*days)
        if len(days) >= rule.what.least_days:
            result += [row for row in rows if row["rule"] == number and peer_of(row) not in known]
    return result
