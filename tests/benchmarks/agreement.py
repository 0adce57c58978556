"""Whether two engines found the same: the tables that the tasks of `tests/benchmarks/peers` wrote, compared row by row in DuckDB.

Task a is compared by the number of rows, sums, and the sum of a hash over all columns of a row; b by its rows; c by a join on five-tuples.

Two differences from flowlog are right, and said. Where interfaces disagree on what is today's, at midnight, flowlog keeps the sender's
count unless another interface has over 2 packets and 1 % more; the peers take the largest. Such a connection begins or ends within two
minutes of midnight, and differs by no more than that. And where no flags tell who began, flowlog may know by other means, or say that it
does not; the peers go by ports. More than 1 % of these (and more than 2) are a fault, for most go by ports in flowlog too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from tests.benchmarks.peers.layout import sort_of

EDGE_SECONDS = 120
GUESSED_SHARE, GUESSED_LEAST = 0.01, 2
_SQL_TYPES = {"int": "bigint", "bigint": "bigint", "text": "varchar"}
_FLAGS = ("syn", "syn-ack", "syn+syn-ack")


@dataclass(frozen=True)
class Tables:
    """For each task, a query for its table in the peers' columns."""

    queries: dict[str, str]

    @classmethod
    def of_peer(cls, output: Path, tasks: str) -> Tables:
        """What a peer wrote."""
        return cls({task: _files(str(path) for path in sorted((output / task).glob("*.parquet"))) for task in tasks})

    @classmethod
    def of_flowlog(cls, warehouse: Path, tasks: str) -> Tables:
        """What flowlog wrote; its tables hold more, and are brought down to what the tasks ask for."""
        chosen = {task: _FLOWLOG[task] for task in tasks}
        files = {task: _files(DeltaTable(str(warehouse / name)).file_uris()) for task, (name, _) in chosen.items()}
        return cls({task: query.format(f"({files[task]})") for task, (_, query) in chosen.items()})


@dataclass
class Agreement:
    """What was compared, in words; `faults` are differences that nothing explains."""

    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


_SUBNETS = """
select hour, subnet_id, action, sum(bytes) as bytes, sum(packets) as packets, sum(records) as records from {} group by all"""
_CONNECTIONS = f"""
select initiator_addr, initiator_port, responder_addr, responder_port, protocol, bytes_sent + rejected_bytes_sent as bytes_sent,
  bytes_received + rejected_bytes_received as bytes_received, packets_sent + rejected_packets_sent as packets_sent,
  packets_received + rejected_packets_received as packets_received,
  records, first_start, last_end, basis in {_FLAGS} as by_flags from {{}}"""
_FLOWLOG = {"a": ("records", "from {}"), "b": ("subnet_bytes", _SUBNETS), "c": ("connections", _CONNECTIONS)}
_TUPLES = """
select if(i <= r, i, r) as one, if(i <= r, r, i) as other, protocol, arg_min(i, first_start) as initiator, bool_or(by_flags) as by_flags,
  sum(if(i <= r, bytes_sent, bytes_received))::bigint as b1, sum(if(i <= r, bytes_received, bytes_sent))::bigint as b2,
  sum(if(i <= r, packets_sent, packets_received))::bigint as p1, sum(if(i <= r, packets_received, packets_sent))::bigint as p2,
  sum(records)::bigint as records, epoch(min(first_start))::bigint as first, epoch(max(last_end))::bigint as last
from (select *, initiator_addr || ' ' || initiator_port as i, responder_addr || ' ' || responder_port as r from ({}))
group by all"""
_DIFFERENCES = """
select count(x.one) as connections, coalesce(sum(x.b1 + x.b2), 0)::bigint as octets, count(*) filter (x.by_flags) as flagged,
  count(*) filter (x.one is null or y.one is null) as missing,
  count(*) filter (x.by_flags <> y.by_flags or x.records <> y.records or x.first <> y.first or x.last <> y.last) as otherwise,
  count(*) filter (x.initiator <> y.initiator and (x.by_flags or y.by_flags)) as initiators,
  count(*) filter (x.initiator <> y.initiator and not (x.by_flags or y.by_flags)) as by_ports,
  count(*) filter (differ and at_edge) as edge, count(*) filter (differ and not at_edge) as amounts
from x full join y using (one, other, protocol),
lateral (select (x.b1, x.b2, x.p1, x.p2) <> (y.b1, y.b2, y.p1, y.p2) as differ,
  least(abs(x.first - {midnight}), abs(x.last - {midnight} - 86400)) < {edge}
  and abs(x.p1 - y.p1) <= greatest(2, 0.01 * x.p1) and abs(x.p2 - y.p2) <= greatest(2, 0.01 * x.p2) as at_edge)"""


def compare(task: str, mine: Tables, theirs: Tables, columns: Sequence[str], midnight: int) -> Agreement:
    """Compare what two engines found; `columns` are the log format's, `midnight` begins the day. Task d is all three."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    result = Agreement()
    for name in "abc" if task == "d" else task:
        pair = (mine.queries[name], theirs.queries[name])
        if name == "a":
            _compare_rows(con, *pair, columns, result)
        elif name == "b":
            _compare_totals(con, *pair, result)
        else:
            _compare_connections(con, *pair, midnight, result)
    return result


def _files(paths: Any) -> str:
    return f"select * from read_parquet({list(paths)}, hive_partitioning = false)"


def _compare_rows(con: duckdb.DuckDBPyConnection, mine: str, theirs: str, columns: Sequence[str], result: Agreement) -> None:
    values = [f'"{name}"::{_SQL_TYPES[sort_of(name)]}' for name in columns] + [f"epoch({name}_time)::bigint" for name in ("start", "end")]
    query = "select count(*), sum(bytes)::bigint, sum(packets)::bigint, sum(hash({}))::varchar from ({})"
    (rows, octets, packets, sign), other = (con.execute(query.format(", ".join(values), one)).fetchone() or () for one in (mine, theirs))
    result.said.append(f"{rows:,} rows, {octets:,} bytes, {packets:,} packets")
    if other != (rows, octets, packets, sign):
        result.faults.append(f"a: rows, bytes, packets, hash {(rows, octets, packets, sign)} and {other}")


def _compare_totals(con: duckdb.DuckDBPyConnection, mine: str, theirs: str, result: Agreement) -> None:
    query = "select epoch(hour)::bigint, subnet_id, action, bytes::bigint, packets::bigint, records::bigint from ({}) order by all"
    one, other = (con.execute(query.format(table)).fetchall() for table in (mine, theirs))
    result.said.append(f"{len(one):,} totals of {sum(row[3] for row in one):,} bytes")
    if one != other:
        unlike = sorted(set(one) ^ set(other), key=str)
        result.faults.append(f"b: {len(unlike)} rows are in one table only, the first {unlike[0] if unlike else 'twice'}")


def _compare_connections(con: duckdb.DuckDBPyConnection, mine: str, theirs: str, midnight: int, result: Agreement) -> None:
    for name, query in (("x", mine), ("y", theirs)):
        con.execute(f"create or replace temp table {name} as {_TUPLES.format(query)}")
    found = con.execute(_DIFFERENCES.format(midnight=midnight, edge=EDGE_SECONDS))
    names = [column[0] for column in found.description or ()]
    counts = dict(zip(names, found.fetchone() or (), strict=True))
    said = f"{counts['connections']:,} connections of {counts['octets']:,} bytes, {counts['flagged']:,} initiators by flags"
    remarks = [f"{counts['edge']:,} differ at midnight"] * bool(counts["edge"])
    remarks += [f"{counts['by_ports']:,} initiators without flags differ"] * bool(counts["by_ports"])
    result.said.append(", ".join([said, *remarks]))
    faults = {
        "missing": "in one table only",
        "otherwise": "of other times",
        "initiators": "of another initiator",
        "amounts": "of other bytes",
    }
    result.faults += [f"c: {counts[name]:,} connections are {text}" for name, text in faults.items() if counts[name]]
    without = counts["connections"] - counts["flagged"]
    if counts["by_ports"] > max(GUESSED_SHARE * without, GUESSED_LEAST):
        result.faults.append(f"c: {counts['by_ports']:,} of {without:,} initiators without flags differ")
