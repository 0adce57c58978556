"""chDB (ClickHouse in the process). The whole day (`d`) writes the columnar table and asks that for the rest."""

from __future__ import annotations

import sys
from pathlib import Path

from chdb import session

from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": "Nullable(Int32)", "bigint": "Nullable(Int64)", "text": "Nullable(String)"}
# ClickHouse refuses a blank as the delimiter of its CSV format and names this one instead.
_SETTINGS = """format_custom_field_delimiter = ' ', format_custom_escaping_rule = 'CSV', format_csv_null_representation = '-',
  output_format_parquet_compression_method = 'zstd', engine_file_truncate_on_insert = 1"""

TOTALS = """
select toDateTime64(intDiv(start, 3600) * 3600, 6, 'UTC') as hour, subnet_id, action, sum(bytes) as bytes, sum(packets) as packets,
  toInt64(count()) as records
from {logged} where log_status = 'OK' and srcaddr = pkt_srcaddr and dstaddr = pkt_dstaddr
group by hour, subnet_id, action"""

CONNECTIONS = """
select if(one_first, one, other) as initiator_addr, if(one_first, one_port, other_port) as initiator_port,
  if(one_first, other, one) as responder_addr, if(one_first, other_port, one_port) as responder_port, protocol,
  if(one_first, forth[1], back[1]) as bytes_sent, if(one_first, back[1], forth[1]) as bytes_received,
  if(one_first, forth[2], back[2]) as packets_sent, if(one_first, back[2], forth[2]) as packets_received,
  records, toDateTime64(first, 6, 'UTC') as first_start, toDateTime64(last, 6, 'UTC') as last_end,
  toBool(one_began != other_began) as by_flags
from (
  select one, one_port, other, other_port, protocol,
    [max(bytes_forth), max(packets_forth)] as forth, [max(bytes_back), max(packets_back)] as back,
    max(one_began_here) as one_began, max(other_began_here) as other_began,
    toInt64(sum(seen)) as records, min(first_here) as first, max(last_here) as last,
    if(one_began != other_began, one_began = 1, one_port >= other_port) as one_first
  from (
    select if(is_forth, source, target) as one, if(is_forth, srcport, dstport) as one_port, if(is_forth, target, source) as other,
      if(is_forth, dstport, srcport) as other_port, proto as protocol, interface_id,
      sum(if(is_forth, bytes, 0)) as bytes_forth, sum(if(is_forth, 0, bytes)) as bytes_back,
      sum(if(is_forth, packets, 0)) as packets_forth, sum(if(is_forth, 0, packets)) as packets_back,
      max(proto = 6 and syn = if(is_forth, 2, 18)) as one_began_here, max(proto = 6 and syn = if(is_forth, 18, 2)) as other_began_here,
      count() as seen, min(start) as first_here, max(end) as last_here
    from (
      select interface_id, assumeNotNull(pkt_srcaddr) as source, assumeNotNull(pkt_dstaddr) as target, assumeNotNull(srcport) as srcport,
        assumeNotNull(dstport) as dstport, assumeNotNull(protocol) as proto, bitAnd(ifNull(tcp_flags, 0), 18) as syn,
        bytes, packets, start, end, (source, srcport) <= (target, dstport) as is_forth
      from {logged} where protocol is not null
    )
    group by one, one_port, other, other_port, protocol, interface_id
  )
  group by one, one_port, other, other_port, protocol
)"""


def logged(day: DayOfLogs, con: session.Session) -> str:
    """The rows of the day, typed."""
    if day.is_parquet:
        told = con.query(f"describe table file('{day.objects[0]}', 'Parquet')", "TabSeparated").bytes().decode()
        names = [line.split("\t")[0] for line in told.splitlines()]
        chosen = ", ".join(f"nullIf(r.{name}, '-') as {name}" if sort_of(name) == "text" else f"r.{name} as {name}" for name in names)
        rows = f"(select {chosen} from file('{day.pattern}', 'Parquet') as r)"
    else:
        structure = ", ".join(f"`{name.replace('_', '-')}` {_TYPES[sort_of(name)]}" for name in day.columns)
        chosen = ", ".join(f"`{name.replace('_', '-')}` as {name}" for name in day.columns)
        rows = f"(select {chosen} from file('{day.pattern}', 'CustomSeparatedWithNames', '{structure}'))"
    return f"(select * from {rows} where start >= {day.begin} and start < {day.end})"


def main() -> int:
    """Run one task."""
    task, day, output = arguments()
    con = session.Session()
    rows = logged(day, con)

    def write(name: str, query: str) -> Path:
        path = output / name / "part.parquet"
        con.query(f"insert into function file('{path}', 'Parquet') {query} settings {_SETTINGS}")
        return path

    if task in "ad":
        times = (f"toDateTime64({name}, 6, 'UTC') as {name}_time" for name in ("start", "end"))
        written = write("a", f"select *, {', '.join(times)} from {rows}")
        rows = f"file('{written}', 'Parquet')"
    if task in "bd":
        write("b", TOTALS.format(logged=rows))
    if task in "cd":
        write("c", CONNECTIONS.format(logged=rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
