"""How right the analytics are, against the truth of sample logs: initiators, bytes, NAT pairs, subnet totals.

    python -m tests.benchmarks.accuracy

makes two sample days of all kinds of traffic, one with flow logs in formats of their own and one in AWS's default format, runs them whole
and prints the figures; `WAREHOUSE LOGS --day D` prints those of a day that was run before. Only Delta tables are read.

What is judged. Every connection of the truth is to be found; one that is missing has no initiator that could be right. Left out are those
with rows in an object that came too late for the run (`late_records`), and those with rows near midnight (`near_midnight`), for there
interfaces disagree on which packets are today's. Who initiated does not hang on that, so of those found near midnight it is judged
apart: by flags, or carried over from the day before. Bad lines and objects delivered twice take nothing from the truth and leave nothing
out. `unsolicited` packets have no initiator. Where no row shows both ends (`ends_logged`: pods behind their nodes, in the default format)
a connection counts as missing, and a second figure leaves it out.

How rows are matched. A row of the table and a connection of the truth are a pair if they have the same ends, in either order, and the same
protocol, begin within 300 s of each other, and neither has a nearer partner; a VPC that contradicts makes a partner a far one, for the two
default VPCs have the same addresses. Rows without a partner are told apart as further rows of a true connection's ends, or of ends that
nobody has. The truth keeps rejects after the close in columns of their own, the table within `rejected_*`.

A pair of NAT legs counts as wrong wherever the truth does not have it, of whatever hour. Translations by pods' nodes and hops through
transit gateways are not in the truth, and not judged. Totals of subnets are exact from 01:00 to 23:00 only: around midnight, and where an
object came late, rows that the run cannot know of tell what a flow log covers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from flowlog_udfs.sample import SampleRequest, make_sample

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 10)
TABLES = ("connections", "nat_mappings", "subnet_bytes", "reconciliation")
TRUTH = ("connections", "nat", "subnets", "totals")

DEFAULT_FORMAT = {"found_shown": 1.0, "initiators": 0.97, "octets": 1.0, "nat_pairs_shown": 0.99, "subnet_hours": 1.0, "account": 1.0}
"""Targets in AWS's default format, in which pods hide behind their nodes."""
_MORE = {"known": 1.0, "initiators_at_midnight": 1.0, "nat_pairs": 0.99, "subnet_hours": 1.0, "account": 1.0}
WITH_FLAGS = {"found": 1.0, "initiators_by_flags": 1.0, "initiators": 0.99, "octets": 1.0, **_MORE}
"""Targets where some flow logs show flags and packet-level addresses."""


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    of: int

    def __str__(self) -> str:
        """Both, the percentage, and how many are not right."""
        if not self.of:
            return "        none to judge"
        wrong = f", {self.of - self.right:,} not" if self.right < self.of else ""
        return f"{self.right:>9,} of {self.of:>9,}  {self.right / self.of:8.3%}{wrong}"


@dataclass(frozen=True)
class Basis:
    """How many initiators of one basis are right, and how sure the table is of them on average."""

    right: Share
    confidence: float


def _said(label: str, remark: str = "") -> dict[str, str]:
    return {"label": label, "remark": remark}


@dataclass(frozen=True)
class Accuracy:
    """The figures of a day; None where their table was not made. `octets_off` counts connections by which of their bytes are unequal."""

    found: Share | None = field(default=None, metadata=_said("connections found"))
    found_shown: Share | None = field(default=None, metadata=_said("  whose ends a row shows"))
    known: Share | None = field(default=None, metadata=_said("rows that are a connection"))
    further: int | None = field(default=None, metadata=_said("  further rows of one"))
    initiators_by_flags: Share | None = field(
        default=None, metadata=_said("initiator right, by flags", "of those whose SYN or SYN-ACK is in the day")
    )
    initiators_at_midnight: Share | None = field(default=None, metadata=_said("initiator right, at midnight", "by flags, or carried"))
    initiators: Share | None = field(default=None, metadata=_said("initiator right, all"))
    octets: Share | None = field(default=None, metadata=_said("bytes equal, each way", "and verdict"))
    nat_pairs: Share | None = field(default=None, metadata=_said("NAT legs paired rightly", "of those that can be told apart"))
    nat_pairs_shown: Share | None = field(default=None, metadata=_said("  whose ends a row shows"))
    look_alikes: Share | None = field(default=None, metadata=_said("look-alikes left at 1/k", "or told apart by their times"))
    wrong_pairs: int | None = field(default=None, metadata=_said("wrong pairs above 0.9"))
    subnet_hours: Share | None = field(
        default=None, metadata=_said("subnet totals equal", "by hour from 01:00 to 23:00, subnet, direction, action")
    )
    edge_hours: Share | None = field(default=None, metadata=_said("  in the first and last hour"))
    buckets: Share | None = field(default=None, metadata=_said("bytes in the right bucket"))
    account: Share | None = field(default=None, metadata=_said("raw = sum of all buckets", "by scope and measure"))
    octets_off: Mapping[str, int] = field(default_factory=dict)
    bases: Mapping[str, Basis] = field(default_factory=dict)

    def shortcomings(self, targets: Mapping[str, float]) -> list[str]:
        """What falls below its target or was not made, in the order of the targets, and NAT pairs that are wrong but sure."""
        found = {name: getattr(self, name) for name in targets}
        short = [f"{name}: {share or 'not made'}" for name, share in found.items() if not share or share.right < targets[name] * share.of]
        return short + [f"wrong NAT pairs with confidence above 0.9: {self.wrong_pairs}"] * bool(self.wrong_pairs)

    def __str__(self) -> str:
        """One line for each figure."""
        lines = []
        for figure in (one for one in fields(self) if one.metadata):
            value = getattr(self, figure.name)
            text = "    not made" if value is None else f"{value:>9,}" if isinstance(value, int) else str(value)
            lines.append(f"{figure.metadata['label']:<29}{text}   {figure.metadata['remark']}".rstrip())
        lines += [f"  bytes unequal, {name:<14}{count:>9,}" for name, count in self.octets_off.items() if count]
        return "\n".join(lines + [f"  by {name:<26}{one.right}, confidence {one.confidence:.3f}" for name, one in self.bases.items()])


def accuracy(warehouse: Path, logs: Path, day: date) -> Accuracy:
    """Compare a day's tables with the truth beside its logs."""
    con = duckdb.connect()
    made = {name for name in TABLES if DeltaTable.is_deltatable(str(warehouse / name))}
    for name in made:
        _open(con, name, DeltaTable(warehouse / name), day)
    for name in TRUTH:
        con.execute(f"create view true_{name} as select * from read_parquet('{logs}/truth/day={day}/{name}.parquet')")
    figures: dict[str, Any] = {}
    if "connections" in made:
        figures |= _connections(con)
    if "nat_mappings" in made:
        told, told_shown, alike, figures["wrong_pairs"] = _shares(con, _PAIRS, 3)
        figures |= {"nat_pairs": told, "nat_pairs_shown": told_shown, "look_alikes": alike}
    if "subnet_bytes" in made:
        figures["subnet_hours"], figures["edge_hours"] = _shares(con, _SUBNETS, 2)
    if "reconciliation" in made:
        (figures["buckets"],) = _shares(con, _BUCKETS, 1)
        (figures["account"],) = _shares(con, _ACCOUNT, 1)
    return Accuracy(**figures)


def _open(con: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, day: date) -> None:
    """A view of the day's rows in the table's current version."""
    files = [uri for uri in table.file_uris() if f"/day={day}/" in uri]
    if files:
        con.execute(f"create view {name} as select * from read_parquet({files!r}, hive_partitioning=false)")
    else:
        con.register(name, pa.schema(table.schema().to_arrow()).empty_table())


def _shares(con: duckdb.DuckDBPyConnection, query: str, shares: int) -> list[Share | int]:
    """The columns of a query's one row: pairs for so many shares, then plain numbers."""
    row = [int(value or 0) for value in con.execute(query).fetchone() or ()]
    return [*(Share(*row[2 * place : 2 * place + 2]) for place in range(shares)), *row[2 * shares :]]


def _connections(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    con.execute(_ENDS)
    # Each round pairs those that are nearest to each other; what is left may have lost its nearest one to another.
    while (con.execute(_NEAREST).fetchone() or (0,))[0]:
        pass
    con.execute(_MATCHED)

    def share(right: str, where: str) -> Share:
        return Share(*(con.execute(f"select count(*) filter (where {right}), count(*) from matched where {where}").fetchone() or (0, 0)))

    known, further = _shares(con, _ROWS, 1)
    return {
        "found": share("found", "judged"),
        "found_shown": share("found", "judged and ends_logged"),
        "known": known,
        "further": further,
        "initiators_by_flags": share("same_initiator", "judged and has_initiator and flagged"),
        "initiators_at_midnight": share("same_initiator", "at_midnight and found and has_initiator and (flagged or basis = 'carried')"),
        "initiators": share("same_initiator", "judged and has_initiator"),
        "octets": share("same_sent and same_received and same_rejected", "judged and found"),
        "octets_off": {way: share(f"not same_{way}", "judged and found").right for way in ("sent", "received", "rejected")},
        "bases": {name: Basis(Share(right, count), confidence) for name, right, count, confidence in con.execute(_BASES).fetchall()},
    }


_SIDES = """*, initiator_addr || ' ' || initiator_port as initiator_end, responder_addr || ' ' || responder_port as responder_end,
    least(initiator_end, responder_end) as one, greatest(initiator_end, responder_end) as other"""
_ENDS = f"""
create table truth as select {_SIDES}, initiator_network as one_vpc, responder_network as other_vpc from true_connections;
create table made as select {_SIDES}, initiator_vpc_id as one_vpc, responder_vpc_id as other_vpc from connections;
update truth set one_vpc = other_vpc, other_vpc = one_vpc where one <> initiator_end;
update made set one_vpc = other_vpc, other_vpc = one_vpc where one <> initiator_end;
create table candidates as
select t.connection, m.connection_id, abs(epoch(m.first_start) - epoch(t.first_start)) as apart,
    coalesce(m.one_vpc <> t.one_vpc, false) or coalesce(m.other_vpc <> t.other_vpc, false) as contradicted
from truth t join made m using (one, other, protocol) where apart <= 300;
create table pairs (connection bigint, connection_id bigint);
"""
_NEAREST = """
insert into pairs select connection, connection_id from candidates
anti join pairs using (connection) anti join pairs using (connection_id)
qualify row_number() over (partition by connection order by contradicted, apart, connection_id) = 1
    and row_number() over (partition by connection_id order by contradicted, apart, connection) = 1
"""
_MATCHED = """
create table matched as
select m.connection_id is not null as found, t.late_records = 0 and not t.near_midnight as judged,
    t.late_records = 0 and t.near_midnight as at_midnight, t.ends_logged, t.state <> 'unsolicited' as has_initiator,
    t.syn_logged or t.syn_ack_logged as flagged, m.basis, m.confidence, coalesce(t.initiator_end = m.initiator_end, false) as same_way,
    same_way and m.basis <> 'none' as same_initiator,
    t.bytes_sent = if(same_way, m.bytes_sent, m.bytes_received) as same_sent,
    t.bytes_received = if(same_way, m.bytes_received, m.bytes_sent) as same_received,
    t.rejected_bytes_sent + t.late_rejected_bytes_sent = if(same_way, m.rejected_bytes_sent, m.rejected_bytes_received)
        and t.rejected_bytes_received + t.late_rejected_bytes_received
            = if(same_way, m.rejected_bytes_received, m.rejected_bytes_sent) as same_rejected
from truth t left join pairs using (connection) left join made m using (connection_id)
"""
_BASES = """
select basis, count(*) filter (where same_initiator), count(*), avg(confidence) from matched
where (judged or at_midnight) and found and has_initiator group by basis order by 3 desc, 1
"""
_ROWS = """
select count(*) filter (where p.connection_id is not null), count(*),
    count(*) filter (where p.connection_id is null and exists (
        select 1 from truth t where t.one = m.one and t.other = m.other and t.protocol = m.protocol))
from made m left join pairs p using (connection_id)
"""
_PAIRS = """
with legs as (
    select n.*, inside.ends_logged and outside.ends_logged as shown from true_nat n
    join true_connections inside on inside.connection = n.connection
    join true_connections outside on outside.connection = n.outside_connection
    where not n.near_midnight and n.late_records = 0
),
joined as (
    select legs.connection as id, legs.distinguishable, legs.shown, m.candidates, m.confidence,
        coalesce(m.nat_port = legs.nat_port and m.nat_addr = legs.nat_addr, false) as is_right
    from legs left join nat_mappings m using (nat_kind, inside_addr, inside_port, remote_addr, remote_port, protocol)
    where m.nat_kind is null or abs(epoch(m.first_start) - epoch(legs.first_start)) <= 130
),
found as (
    select id, bool_or(is_right) as hit, bool_or(candidates > 8) as crowded, bool_and(abs(confidence * candidates - 1) < 0.01) as shared,
        count(*) = 1 and bool_and(is_right) as alone
    from joined group by id
),
told as (select legs.distinguishable as apart, legs.shown, coalesce(hit, false) as hit,
    coalesce(shared and (hit or crowded) or alone, false) as fair from legs left join found on found.id = legs.connection)
select count(*) filter (where apart and hit), count(*) filter (where apart),
    count(*) filter (where apart and shown and hit), count(*) filter (where apart and shown),
    count(*) filter (where not apart and fair), count(*) filter (where not apart),
    (select count(*) from nat_mappings m where confidence > 0.9 and nat_port is not null
        and nat_kind in ('nat_gateway', 'regional_nat_gateway', 'load_balancer') and not exists (
        select 1 from true_nat n where n.nat_kind = m.nat_kind and n.protocol = m.protocol
            and n.inside_addr = m.inside_addr and n.inside_port = m.inside_port and n.nat_addr = m.nat_addr and n.nat_port = m.nat_port
            and n.remote_addr = m.remote_addr and n.remote_port = m.remote_port))
from told
"""
_SUBNETS = """
with made as (select hour, subnet_id, direction, action, sum(bytes) as bytes, sum(records) as records from subnet_bytes group by all),
truth as (
    select hour, subnet_id, direction, action, sum(bytes) as bytes, sum(records) as records from true_subnets
    where bucket = 'counted' and records > 0 group by all
),
compared as (
    select epoch(hour)::bigint // 3600 % 24 in (0, 23) as at_edge,
        coalesce(made.bytes = truth.bytes and made.records = truth.records, false) as same
    from made full join truth using (hour, subnet_id, direction, action)
)
select count(*) filter (where same and not at_edge), count(*) filter (where not at_edge),
    count(*) filter (where same and at_edge), count(*) filter (where at_edge)
from compared
"""
_BUCKETS = """
with made as (select bucket, value from reconciliation where scope = 'subnet' and measure = 'bytes' and bucket <> 'raw')
select sum(least(coalesce(made.value, 0), coalesce(truth.bytes, 0))), sum(truth.bytes)
from made full join true_totals truth using (bucket)
"""
_ACCOUNT = """
with sums as (
    select scope, measure, sum(value) filter (where bucket = 'raw') as raw, sum(value) filter (where bucket <> 'raw') as shared_out
    from reconciliation group by all
)
select count(*) filter (where raw = shared_out), count(*)
from (values ('subnet', 'bytes'), ('subnet', 'records'), ('connection', 'bytes'), ('connection', 'records')) expected(scope, measure)
left join sums using (scope, measure)
"""


def run_sample(folder: Path, records: int, formats: str) -> tuple[Path, Path]:
    """Make a sample day, run it whole, and return the warehouse and the logs."""
    logs, warehouse = folder / f"logs-{formats}", folder / f"tables-{formats}"
    made = make_sample(SampleRequest(str(logs), DAY, records=records, fields=formats, streams=False))
    print(f"\n{made.records:,} records of {made.connections:,} connections, formats: {formats}", flush=True)
    options = ["--source", logs, "--warehouse", warehouse, "--day", DAY, "--inventory", logs / "inventory.json"]
    command = ["spark-submit", "--properties-file", "conf/spark-local.conf", "jobs/run_day.py", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return warehouse, logs


def main() -> int:
    """Print the accuracy of sample days, or of a day that was run; status 1 where a figure falls below its target."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="about how many records each sample day has (default: %(default)s)")
    parser.add_argument("warehouse", type=Path, nargs="?", metavar="WAREHOUSE", help="compare this warehouse with LOGS instead")
    parser.add_argument("logs", type=Path, nargs="?", metavar="LOGS", help="sample logs, with their truth")
    parser.add_argument("--day", type=date.fromisoformat, default=DAY)
    given = parser.parse_args()
    if not given.warehouse:
        return print_samples(given.records)
    if not given.logs:
        parser.error("WAREHOUSE needs LOGS, the sample it was made from")
    found = accuracy(given.warehouse, given.logs, given.day)
    print(found)
    flagged = found.initiators_by_flags and found.initiators_by_flags.of
    return _print_shortcomings(found.shortcomings(WITH_FLAGS if flagged else DEFAULT_FORMAT))


def print_samples(records: int) -> int:
    """Make, run and compare the sample days; 1 where a figure falls below its target."""
    short: list[str] = []
    with tempfile.TemporaryDirectory(prefix="flowlog-accuracy-") as scratch:
        for formats, targets in (("all", WITH_FLAGS), ("v2", DEFAULT_FORMAT)):
            warehouse, logs = run_sample(Path(scratch), records, formats)
            found = accuracy(warehouse, logs, DAY)
            print(found, flush=True)
            short += [f"formats {formats}: {one}" for one in found.shortcomings(targets)]
    return _print_shortcomings(short)


def _print_shortcomings(short: list[str]) -> int:
    print("\n".join(["", *(f"below its target: {one}" for one in short)]))
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
