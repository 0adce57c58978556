"""How right the analytics are, against the truth of sample logs: initiators, bytes, NAT pairs, subnet totals.

    python -m tests.benchmarks.accuracy

makes two sample days of all kinds of traffic, one with flow logs in formats of their own and one in AWS's default format, runs them whole
and prints the figures; `--warehouse`, `--logs` and `--day` print those of a day that was run before.

A connection of the truth is judged if all its rows are in what the run read: not if rows came too late (`late_records`) or lie on both
sides of midnight (`near_midnight`). Connections are matched by ends, protocol and the time they begin; one that is missing has no initiator
that could be right. Totals of subnets and buckets include the few minutes around midnight in which only other days' rows tell what a flow
log covers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from flowlog_udfs.sample import SampleRequest, make_sample

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 10)
TABLES = ("connections", "nat_mappings", "subnet_bytes", "reconciliation")
TRUTH = ("connections", "nat", "subnets", "totals")


WITH_FLAGS = {"found": 1.0, "initiators_by_flags": 1.0, "initiators": 0.99, "octets": 1.0, "nat_pairs": 0.99}
"""Targets where some flow logs show flags and packet-level addresses."""
DEFAULT_FORMAT = {"initiators": 0.97}
"""Targets in AWS's default format, in which pods hide behind their nodes."""


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    of: int

    def __str__(self) -> str:
        return f"{self.right:>9,} of {self.of:>9,}  {self.right / self.of:8.3%}" if self.of else "        none to judge"


@dataclass(frozen=True)
class Accuracy:
    """The figures of a day; `bases` are connections and how many of them are right by basis."""

    found: Share
    initiators_by_flags: Share
    initiators: Share
    octets: Share
    nat_pairs: Share
    look_alikes: Share
    wrong_pairs: int
    subnet_hours: Share
    buckets: Share
    bases: dict[str, Share]

    def shortcomings(self, targets: Mapping[str, float]) -> list[str]:
        """What falls below its target: fields that are shares, and pairs of NAT legs that are wrong but sure."""
        found = {name: getattr(self, name) for name in targets}
        short = [f"{name}: {share}" for name, share in found.items() if share.right < targets[name] * share.of]
        return short + [f"wrong NAT pairs with confidence above 0.9: {self.wrong_pairs}"] * (self.wrong_pairs > 0)

    def __str__(self) -> str:
        lines = [
            f"connections found            {self.found}",
            f"initiator right, by flags    {self.initiators_by_flags}   of those whose SYN or SYN-ACK is in the day",
            f"initiator right, all         {self.initiators}",
            f"bytes equal, each way        {self.octets}",
            f"NAT legs paired rightly      {self.nat_pairs}   of those that can be told apart",
            f"look-alikes left at 1/k      {self.look_alikes}   or told apart by their times",
            f"wrong pairs above 0.9        {self.wrong_pairs:>9,}",
            f"subnet totals equal          {self.subnet_hours}   by hour, subnet, direction, action",
            f"buckets equal                {self.buckets}",
        ]
        return "\n".join(lines + [f"  by {basis:<26}{share}" for basis, share in self.bases.items()])


def accuracy(warehouse: Path, logs: Path, day: date) -> Accuracy:
    """Compare a day's tables with the truth beside its logs."""
    con = duckdb.connect()
    for name in TABLES:
        files = [uri for uri in DeltaTable(warehouse / name).file_uris() if f"day={day}" in uri]
        con.execute(f"create view {name} as select * from read_parquet({files!r}, hive_partitioning=false)")
    for name in TRUTH:
        con.execute(f"create view true_{name} as select * from read_parquet('{logs}/truth/day={day}/{name}.parquet')")
    con.execute(_MATCHED)
    judged = "from matched where judged"
    # A connection that is missing has no initiator that could be right.
    asked = "from matched where judged and has_initiator"

    def share(right: str, where: str) -> Share:
        right_count, count = con.execute(f"select count(*) filter (where {right}), count(*) {where}").fetchone() or (0, 0)
        return Share(right_count, count)

    bases = con.execute(
        f"select basis, count(*) filter (where same_initiator), count(*) {asked} and found group by 1 order by 3 desc"
    ).fetchall()
    pairs = con.execute(_PAIRS).fetchone() or (0,) * 5
    return Accuracy(
        found=share("found", judged),
        initiators_by_flags=share("same_initiator", f"{asked} and flagged"),
        initiators=share("same_initiator", asked),
        octets=share("same_octets", f"{judged} and found and (same_initiator or not has_initiator)"),
        nat_pairs=Share(pairs[0], pairs[1]),
        look_alikes=Share(pairs[2], pairs[3]),
        wrong_pairs=pairs[4],
        subnet_hours=Share(*(con.execute(_SUBNETS).fetchone() or (0, 0))),
        buckets=Share(*(con.execute(_BUCKETS).fetchone() or (0, 0))),
        bases={basis: Share(right, count) for basis, right, count in bases},
    )


_ENDS = """least(initiator_addr || ' ' || initiator_port, responder_addr || ' ' || responder_port) as one,
    greatest(initiator_addr || ' ' || initiator_port, responder_addr || ' ' || responder_port) as other"""
_MATCHED = f"""
create table matched as
with truth as (select *, row_number() over () as id, {_ENDS} from true_connections),
tables as (select *, {_ENDS} from connections),
candidates as (
    select truth.id, tables.connection_id, abs(epoch(tables.first_start) - epoch(truth.first_start)) as apart,
        row_number() over (partition by truth.id order by apart, tables.connection_id) as choice
    from truth join tables using (one, other, protocol) where apart <= 300
)
select t.id, c.connection_id is not null as found, not t.near_midnight and t.late_records = 0 and t.records > 0 as judged,
    t.state <> 'unsolicited' as has_initiator, t.syn_logged or t.syn_ack_logged as flagged, c.basis,
    coalesce(t.initiator_addr = c.initiator_addr and t.initiator_port = c.initiator_port and c.basis <> 'none', false) as same_initiator,
    t.bytes_sent = c.bytes_sent and t.bytes_received = c.bytes_received
        and t.rejected_bytes_sent + t.late_rejected_bytes_sent = c.rejected_bytes_sent
        and t.rejected_bytes_received + t.late_rejected_bytes_received = c.rejected_bytes_received
        or not (t.initiator_addr = c.initiator_addr and t.initiator_port = c.initiator_port)
        and t.bytes_sent = c.bytes_received and t.bytes_received = c.bytes_sent as same_octets
from truth t left join candidates on candidates.id = t.id and choice = 1
left join tables c on c.connection_id = candidates.connection_id
"""
_PAIRS = """
with legs as (select *, row_number() over () as id from true_nat where not near_midnight and late_records = 0),
joined as (
    select legs.id, legs.distinguishable, m.candidates, m.confidence,
        coalesce(m.nat_port = legs.nat_port and m.nat_addr = legs.nat_addr, false) as is_right
    from legs left join nat_mappings m on m.inside_addr = legs.inside_addr and m.inside_port = legs.inside_port
        and m.remote_addr = legs.remote_addr and m.remote_port = legs.remote_port and m.protocol = legs.protocol
        and m.nat_kind = legs.nat_kind and abs(epoch(m.first_start) - epoch(legs.first_start)) <= 130
),
found as (
    select id, any_value(distinguishable) as told, bool_or(is_right) as hit, bool_or(candidates > 8) as crowded,
        bool_and(coalesce(is_right or confidence <= 0.9, true)) as careful,
        bool_and(abs(confidence * candidates - 1) < 0.01) as shared, count(*) = 1 and bool_and(is_right) as alone
    from joined group by id
)
select count(*) filter (where told and hit), count(*) filter (where told),
    count(*) filter (where not told and (shared and (hit or crowded) or alone)),
    count(*) filter (where not told), count(*) filter (where not careful) from found
"""
_SUBNETS = """
with a as (select hour, subnet_id, direction, action, sum(bytes) as bytes, sum(records) as records from subnet_bytes group by all),
t as (
    select hour, subnet_id, direction, action, sum(bytes) as bytes, sum(records) as records from true_subnets
    where bucket = 'counted' and records > 0 group by all
)
select count(*) filter (where a.bytes = t.bytes and a.records = t.records), count(*)
from a full join t using (hour, subnet_id, direction, action)
"""
_BUCKETS = """
select count(*) filter (where t.bytes = r.value), count(*) from true_totals t
left join reconciliation r on r.scope = 'subnet' and r.measure = 'bytes' and r.bucket = t.bucket
"""


def run_sample(folder: Path, records: int, fields: str) -> tuple[Path, Path]:
    """Make a sample day, run it whole, and return the warehouse and the logs."""
    logs, warehouse = folder / f"logs-{fields}", folder / f"tables-{fields}"
    made = make_sample(SampleRequest(str(logs), DAY, records=records, fields=fields, streams=False))
    print(f"\n{made.records:,} records of {made.connections:,} connections, formats: {fields}", flush=True)
    options = ["--source", logs, "--warehouse", warehouse, "--day", DAY, "--inventory", logs / "inventory.json"]
    command = ["spark-submit", "--properties-file", "conf/spark-local.conf", "jobs/run_day.py", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return warehouse, logs


def main() -> int:
    """Print the accuracy of sample days, or of a day that was run; status 1 where a figure falls below its target."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="about how many records each sample day has (default: %(default)s)")
    parser.add_argument("--warehouse", type=Path, help="compare this warehouse with --logs instead")
    parser.add_argument("--logs", type=Path, help="sample logs, with their truth")
    parser.add_argument("--day", type=date.fromisoformat, default=DAY)
    given = parser.parse_args()
    if given.warehouse:
        print(accuracy(given.warehouse, given.logs, given.day))
        return 0
    return print_samples(given.records)


def print_samples(records: int) -> int:
    """Make, run and compare the sample days; 1 where a figure falls below its target."""
    short: list[str] = []
    with tempfile.TemporaryDirectory(prefix="flowlog-accuracy-") as scratch:
        for fields, targets in (("all", WITH_FLAGS), ("v2", DEFAULT_FORMAT)):
            warehouse, logs = run_sample(Path(scratch), records, fields)
            found = accuracy(warehouse, logs, DAY)
            print(found, flush=True)
            short += [f"formats {fields}: {one}" for one in found.shortcomings(targets)]
    print("\n".join(["", *(f"below its target: {one}" for one in short)]))
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
