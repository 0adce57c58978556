"""pyarrow alone: its datasets read and write, and its engine Acero groups while it reads.

The whole day (`d`) writes the columnar table and scans that for the rest.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.acero import AggregateNodeOptions, Declaration, FilterNodeOptions, ProjectNodeOptions, ScanNodeOptions
from pyarrow.csv import ConvertOptions, ParseOptions

from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": pa.int32(), "bigint": pa.int64(), "text": pa.string()}
_TIME = pa.timestamp("s", tz="UTC")
_FIVE = ["one", "one_port", "other", "other_port", "protocol"]
_AMOUNTS = [f"{what}_{way}" for what in ("bytes", "packets") for way in ("forth", "back")]
_BEGAN = ["one_began", "other_began"]

TOTALS_OF = ("start", "log_status", "srcaddr", "pkt_srcaddr", "dstaddr", "pkt_dstaddr", "subnet_id", "action", "bytes", "packets")
CONNECTIONS_OF = (
    "interface_id",
    "protocol",
    "start",
    "end",
    "bytes",
    "packets",
    "pkt_srcaddr",
    "srcport",
    "pkt_dstaddr",
    "dstport",
    "tcp_flags",
)

Plan = list[Declaration]
"""Nodes one after the other; the last one's rows are the result."""


def logged(day: DayOfLogs) -> tuple[ds.Dataset, dict[str, pc.Expression]]:
    """The objects, and each column of the day's rows as an expression over them."""
    if day.is_parquet:
        objects = ds.dataset([str(path) for path in day.objects], format="parquet")
        columns = {name: pc.field(name) for name in objects.schema.names}
        null = pa.scalar(None, pa.string())
        return objects, {n: pc.if_else(pc.equal(c, "-"), null, c) if sort_of(n) == "text" else c for n, c in columns.items()}
    types = {name.replace("_", "-"): _TYPES[sort_of(name)] for name in day.columns}
    convert = ConvertOptions(column_types=types, null_values=["-"], strings_can_be_null=True)
    form = ds.CsvFileFormat(ParseOptions(delimiter=" ", quote_char=False), convert_options=convert)
    objects = ds.dataset([str(path) for path in day.objects], format=form, schema=pa.schema(list(types.items())))
    return objects, {name: pc.field(name.replace("_", "-")) for name in day.columns}


def project(columns: dict[str, pc.Expression]) -> Declaration:
    """A node of these columns."""
    return Declaration("project", ProjectNodeOptions(list(columns.values()), list(columns)))


def group(keys: list[str], aggregates: list[tuple[str, str]], count: str | None = None) -> Declaration:
    """A node that groups; each aggregate keeps its column's name."""
    options = pc.ScalarAggregateOptions(min_count=0)
    found = [(name, f"hash_{how}", options if how == "any" else None, name) for name, how in aggregates]
    found += [([], "hash_count_all", None, count)] if count else []
    return Declaration("aggregate", AggregateNodeOptions(found, keys))


def totals() -> Plan:
    """Task b, of typed rows."""
    f = pc.field
    own = (f("log_status") == "OK") & (f("srcaddr") == f("pkt_srcaddr")) & (f("dstaddr") == f("pkt_dstaddr"))
    hour = pc.multiply(pc.divide(f("start"), 3600), 3600).cast(_TIME)
    columns = {name: f(name) for name in ("subnet_id", "action", "bytes", "packets")}
    return [
        Declaration("filter", FilterNodeOptions(own)),
        project({"hour": hour, **columns}),
        group(["hour", "subnet_id", "action"], [("bytes", "sum"), ("packets", "sum")], "records"),
    ]


def connections() -> Plan:
    """Task c, of typed rows."""
    f, either = pc.field, pc.if_else
    forth = (f("pkt_srcaddr") < f("pkt_dstaddr")) | ((f("pkt_srcaddr") == f("pkt_dstaddr")) & (f("srcport") <= f("dstport")))
    syn = pc.bit_wise_and(pc.coalesce(f("tcp_flags"), 0), pa.scalar(18, pa.int32()))
    is_tcp, way, zero = f("protocol") == 6, f("forth"), pa.scalar(0, pa.int64())
    ends = {
        "one": either(way, f("pkt_srcaddr"), f("pkt_dstaddr")),
        "one_port": either(way, f("srcport"), f("dstport")),
        "other": either(way, f("pkt_dstaddr"), f("pkt_srcaddr")),
        "other_port": either(way, f("dstport"), f("srcport")),
        "bytes_forth": either(way, f("bytes"), zero),
        "bytes_back": either(way, zero, f("bytes")),
        "packets_forth": either(way, f("packets"), zero),
        "packets_back": either(way, zero, f("packets")),
        "one_began": is_tcp & (f("syn") == either(way, pa.scalar(2, pa.int32()), pa.scalar(18, pa.int32()))),
        "other_began": is_tcp & (f("syn") == either(way, pa.scalar(18, pa.int32()), pa.scalar(2, pa.int32()))),
    }
    began = [(name, "any") for name in _BEGAN]
    by_flags = pc.xor(f("one_began"), f("other_began"))
    pairs = {
        "initiator_addr": ("one", "other"),
        "initiator_port": ("one_port", "other_port"),
        "responder_addr": ("other", "one"),
        "responder_port": ("other_port", "one_port"),
        "bytes_sent": ("bytes_forth", "bytes_back"),
        "bytes_received": ("bytes_back", "bytes_forth"),
        "packets_sent": ("packets_forth", "packets_back"),
        "packets_received": ("packets_back", "packets_forth"),
    }
    rest = {"protocol": f("protocol"), "records": f("records"), "by_flags": f("by_flags")}
    times = {"first_start": f("start").cast(_TIME), "last_end": f("end").cast(_TIME)}
    judged = {name: f(name) for name in (*_FIVE, *_AMOUNTS, "records", "start", "end")}
    return [
        Declaration("filter", FilterNodeOptions(f("protocol").is_valid())),
        project({**{name: f(name) for name in CONNECTIONS_OF}, "forth": forth, "syn": syn}),
        project({**{name: f(name) for name in ("interface_id", "protocol", "start", "end")}, **ends}),
        group([*_FIVE, "interface_id"], [*((name, "sum") for name in _AMOUNTS), *began, ("start", "min"), ("end", "max")], "records"),
        group(_FIVE, [*((name, "max") for name in _AMOUNTS), *began, ("records", "sum"), ("start", "min"), ("end", "max")]),
        project({**judged, "by_flags": by_flags, "forth": either(by_flags, f("one_began"), f("one_port") >= f("other_port"))}),
        project({**{name: either(way, f(yes), f(no)) for name, (yes, no) in pairs.items()}, **rest, **times}),
    ]


def main() -> int:
    """Run one task."""
    task, day, output = arguments()
    objects, columns = logged(day)
    today = (pc.field("start") >= day.begin) & (pc.field("start") < day.end)

    def write(name: str, needed: tuple[str, ...], steps: Plan) -> None:
        named = {name: columns[name] for name in needed}
        # The scan reads only the columns that its own projection names, and leaves it to the next node to compute them.
        scan = ScanNodeOptions(objects, columns=named, filter=today)
        plan = [Declaration("scan", scan), Declaration("filter", FilterNodeOptions(today)), project(named), *steps]
        pq.write_table(Declaration.from_sequence(plan).to_table(), output / name / "part.parquet", compression="zstd")

    if task in "ad":
        written = output / "a"
        times = {f"{name}_time": columns[name].cast(_TIME) for name in ("start", "end")}
        rows = objects.scanner(columns={**columns, **times}, filter=today)
        options = ds.ParquetFileFormat().make_write_options(compression="zstd")
        ds.write_dataset(rows, written, format="parquet", file_options=options, existing_data_behavior="overwrite_or_ignore")
        objects = ds.dataset(written, format="parquet")
        columns = {name: pc.field(name) for name in columns}
    if task in "bd":
        write("b", TOTALS_OF, totals())
    if task in "cd":
        write("c", CONNECTIONS_OF, connections())
    return 0


if __name__ == "__main__":
    sys.exit(main())
