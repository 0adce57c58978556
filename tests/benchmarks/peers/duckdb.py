"""DuckDB. The whole day (`d`) writes the columnar table and asks that for the rest, which costs less than rows in a table of its own."""

from __future__ import annotations

import sys

import duckdb

from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": "INTEGER", "bigint": "BIGINT", "text": "VARCHAR"}

TOTALS = """
select to_timestamp(start // 3600 * 3600) as hour, subnet_id, action,
  sum(bytes)::bigint as bytes, sum(packets)::bigint as packets, count(*) as records
from logged
where log_status = 'OK' and srcaddr = pkt_srcaddr and dstaddr = pkt_dstaddr
group by all"""

CONNECTIONS = """
with ends as (
  select *, (pkt_srcaddr, srcport) <= (pkt_dstaddr, dstport) as forth, coalesce(tcp_flags, 0) & 18 as syn
  from logged where protocol is not null
), seen as (
  select if(forth, pkt_srcaddr, pkt_dstaddr) as one, if(forth, srcport, dstport) as one_port, if(forth, pkt_dstaddr, pkt_srcaddr) as other,
    if(forth, dstport, srcport) as other_port, protocol, interface_id,
    sum(if(forth, bytes, 0)) as bytes_forth, sum(if(forth, 0, bytes)) as bytes_back,
    sum(if(forth, packets, 0)) as packets_forth, sum(if(forth, 0, packets)) as packets_back,
    bool_or(protocol = 6 and syn = if(forth, 2, 18)) as one_began,
    bool_or(protocol = 6 and syn = if(forth, 18, 2)) as other_began,
    count(*) as records, min(start) as first_start, max("end") as last_end
  from ends group by all
), joined as (
  select one, one_port, other, other_port, protocol, max(bytes_forth)::bigint as bytes_forth, max(bytes_back)::bigint as bytes_back,
    max(packets_forth)::bigint as packets_forth, max(packets_back)::bigint as packets_back,
    bool_or(one_began) as one_began, bool_or(other_began) as other_began,
    sum(records)::bigint as records, min(first_start) as first_start, max(last_end) as last_end
  from seen group by one, one_port, other, other_port, protocol
), judged as (
  select *, one_began <> other_began as by_flags, if(by_flags, one_began, one_port >= other_port) as one_first from joined
)
select if(one_first, one, other) as initiator_addr, if(one_first, one_port, other_port) as initiator_port,
  if(one_first, other, one) as responder_addr, if(one_first, other_port, one_port) as responder_port, protocol,
  if(one_first, bytes_forth, bytes_back) as bytes_sent, if(one_first, bytes_back, bytes_forth) as bytes_received,
  if(one_first, packets_forth, packets_back) as packets_sent, if(one_first, packets_back, packets_forth) as packets_received,
  records, to_timestamp(first_start) as first_start, to_timestamp(last_end) as last_end, by_flags
from judged"""


def logged(day: DayOfLogs, con: duckdb.DuckDBPyConnection) -> str:
    """The rows of the day, typed."""
    if day.is_parquet:
        names = [name for name, *_ in con.execute(f"describe from read_parquet('{day.objects[0]}')").fetchall()]
        chosen = ", ".join(f"nullif({name}, '-') as {name}" if sort_of(name) == "text" else f'"{name}"' for name in names)
        rows = f"(select {chosen} from read_parquet('{day.pattern}'))"
    else:
        types = {name: _TYPES[sort_of(name)] for name in day.columns}
        rows = f"read_csv('{day.pattern}', delim=' ', header=true, quote='', escape='', nullstr='-', auto_detect=false, columns={types})"
    return f"select * from {rows} where start >= {day.begin} and start < {day.end}"


def main() -> int:
    """Run one task."""
    task, day, output = arguments()
    con = duckdb.connect()
    con.execute("set preserve_insertion_order = false")
    con.execute(f"create view logged as {logged(day, con)}")

    def write(name: str, query: str) -> None:
        con.execute(f"copy ({query}) to '{output / name / 'part.parquet'}' (format parquet, compression zstd)")

    if task in "ad":
        write("a", 'select *, to_timestamp(start) as start_time, to_timestamp("end") as end_time from logged')
        con.execute(f"create or replace view logged as from '{output / 'a' / 'part.parquet'}'")
    if task in "bd":
        write("b", TOTALS)
    if task in "cd":
        write("c", CONNECTIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
