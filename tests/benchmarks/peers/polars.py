"""Polars, lazily and on its streaming engine. The whole day (`d`) writes the columnar table and scans that for the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": pl.Int32, "bigint": pl.Int64, "text": pl.String}
_FIVE = ["one", "one_port", "other", "other_port", "protocol"]


def logged(day: DayOfLogs) -> pl.LazyFrame:
    """The rows of the day, typed."""
    if day.is_parquet:
        rows = pl.scan_parquet(day.objects)
        text = [name for name, type_ in rows.collect_schema().items() if type_ == pl.String]
        rows = rows.with_columns(pl.when(pl.col(name) != "-").then(pl.col(name)).alias(name) for name in text)
    else:
        schema = {name.replace("_", "-"): _TYPES[sort_of(name)] for name in day.columns}
        rows = pl.scan_csv(day.objects, separator=" ", quote_char=None, null_values="-", schema=schema)
        rows = rows.rename(lambda name: name.replace("-", "_"))
    return rows.filter(pl.col("start") >= day.begin, pl.col("start") < day.end)


def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Task b."""
    own = (pl.col("srcaddr") == pl.col("pkt_srcaddr")) & (pl.col("dstaddr") == pl.col("pkt_dstaddr"))
    hour = pl.from_epoch(pl.col("start") // 3600 * 3600, time_unit="s").dt.replace_time_zone("UTC").alias("hour")
    rows = rows.filter(pl.col("log_status") == "OK", own)
    return rows.group_by(hour, "subnet_id", "action").agg(pl.sum("bytes", "packets"), pl.len().cast(pl.Int64).alias("records"))


def connections(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Task c."""
    source, target = (pl.col("pkt_srcaddr"), pl.col("srcport")), (pl.col("pkt_dstaddr"), pl.col("dstport"))
    forth = pl.col("forth")
    syn = pl.col("tcp_flags").fill_null(0) & 18
    is_tcp = pl.col("protocol") == 6

    def way(yes: pl.Expr, no: pl.Expr) -> pl.Expr:
        return pl.when(forth).then(yes).otherwise(no)

    ends = (
        rows.filter(pl.col("protocol").is_not_null())
        .with_columns(forth=(source[0] < target[0]) | ((source[0] == target[0]) & (source[1] <= target[1])))
        .select(
            "interface_id",
            "protocol",
            "start",
            "end",
            way(source[0], target[0]).alias("one"),
            way(source[1], target[1]).alias("one_port"),
            way(target[0], source[0]).alias("other"),
            way(target[1], source[1]).alias("other_port"),
            *(way(pl.col(name), 0).alias(f"{name}_forth") for name in ("bytes", "packets")),
            *(way(pl.lit(0), pl.col(name)).alias(f"{name}_back") for name in ("bytes", "packets")),
            (is_tcp & (syn == way(pl.lit(2), pl.lit(18)))).alias("one_began"),
            (is_tcp & (syn == way(pl.lit(18), pl.lit(2)))).alias("other_began"),
        )
    )
    amounts = ["bytes_forth", "bytes_back", "packets_forth", "packets_back"]
    began = pl.col("one_began", "other_began").any()
    seen = ends.group_by(*_FIVE, "interface_id").agg(
        pl.sum(*amounts), began, pl.len().cast(pl.Int64).alias("records"), pl.min("start").alias("first"), pl.max("end").alias("last")
    )
    joined = seen.group_by(_FIVE).agg(pl.max(*amounts), began, pl.sum("records"), pl.min("first"), pl.max("last"))
    by_flags = pl.col("one_began") != pl.col("other_began")
    judged = joined.with_columns(
        by_flags=by_flags, forth=pl.when(by_flags).then(pl.col("one_began")).otherwise(pl.col("one_port") >= pl.col("other_port"))
    )
    chosen = {
        "initiator_addr": ("one", "other"),
        "initiator_port": ("one_port", "other_port"),
        "responder_addr": ("other", "one"),
        "responder_port": ("other_port", "one_port"),
        "bytes_sent": ("bytes_forth", "bytes_back"),
        "bytes_received": ("bytes_back", "bytes_forth"),
        "packets_sent": ("packets_forth", "packets_back"),
        "packets_received": ("packets_back", "packets_forth"),
    }
    return judged.select(
        *(way(pl.col(yes), pl.col(no)).alias(name) for name, (yes, no) in chosen.items()),
        "protocol",
        "records",
        pl.from_epoch("first", time_unit="s").dt.replace_time_zone("UTC").alias("first_start"),
        pl.from_epoch("last", time_unit="s").dt.replace_time_zone("UTC").alias("last_end"),
        "by_flags",
    )


def main() -> int:
    """Run one task."""
    task, day, output = arguments()
    rows = logged(day)

    def write(name: str, table: pl.LazyFrame) -> Path:
        path = output / name / "part.parquet"
        table.sink_parquet(path, compression="zstd", engine="streaming")
        return path

    if task in "ad":
        times = {f"{name}_time": pl.from_epoch(name, time_unit="s").dt.replace_time_zone("UTC") for name in ("start", "end")}
        written = write("a", rows.with_columns(**times))
        rows = pl.scan_parquet(written)
    if task in "bd":
        write("b", totals(rows))
    if task in "cd":
        write("c", connections(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
