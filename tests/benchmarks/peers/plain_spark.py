"""Spark as it comes: `spark.read.csv` with a schema, and DataFrames. Run by `spark-submit` with Spark's own settings and a 2 GiB driver.

The whole day (`d`) writes the columnar table and reads that for the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": "INT", "bigint": "BIGINT", "text": "STRING"}
_FIVE = ["one", "one_port", "other", "other_port", "protocol"]
_BEGAN = ["one_began", "other_began"]


def logged(spark: SparkSession, day: DayOfLogs) -> DataFrame:
    """The rows of the day, typed."""
    # Day folders, not objects: Spark plans a few paths far faster than many.
    folders = sorted({str(path.parent) for path in day.objects})
    if day.is_parquet:
        rows = spark.read.parquet(*folders)
        rows = rows.select(*(F.nullif(name, F.lit("-")).alias(name) if sort_of(name) == "text" else name for name in rows.columns))
    else:
        schema = ", ".join(f"`{name}` {_TYPES[sort_of(name)]}" for name in day.columns)
        rows = spark.read.schema(schema).csv(folders, sep=" ", header=True, nullValue="-", quote="")
    return rows.where((F.col("start") >= day.begin) & (F.col("start") < day.end))


def totals(rows: DataFrame) -> DataFrame:
    """Task b."""
    own = (F.col("srcaddr") == F.col("pkt_srcaddr")) & (F.col("dstaddr") == F.col("pkt_dstaddr"))
    hour = F.date_trunc("hour", F.timestamp_seconds("start")).alias("hour")
    return (
        rows.where((F.col("log_status") == "OK") & own)
        .groupBy(hour, "subnet_id", "action")
        .agg(F.sum("bytes").alias("bytes"), F.sum("packets").alias("packets"), F.count("*").alias("records"))
    )


def connections(rows: DataFrame) -> DataFrame:
    """Task c."""
    syn, is_tcp = F.coalesce("tcp_flags", F.lit(0)).bitwiseAND(18), F.col("protocol") == 6

    def way(yes: Column | str, no: Column | str) -> Column:
        return F.when(F.col("forth"), yes if isinstance(yes, Column) else F.col(yes)).otherwise(no if isinstance(no, Column) else F.col(no))

    ends = (
        rows.where(F.col("protocol").isNotNull())
        .withColumn("forth", F.struct("pkt_srcaddr", "srcport") <= F.struct("pkt_dstaddr", "dstport"))
        .select(
            *("interface_id", "protocol", "start", "end"),
            way("pkt_srcaddr", "pkt_dstaddr").alias("one"),
            way("srcport", "dstport").alias("one_port"),
            way("pkt_dstaddr", "pkt_srcaddr").alias("other"),
            way("dstport", "srcport").alias("other_port"),
            *(way(name, F.lit(0)).alias(f"{name}_forth") for name in ("bytes", "packets")),
            *(way(F.lit(0), name).alias(f"{name}_back") for name in ("bytes", "packets")),
            (is_tcp & (syn == way(F.lit(2), F.lit(18)))).alias("one_began"),
            (is_tcp & (syn == way(F.lit(18), F.lit(2)))).alias("other_began"),
        )
    )
    amounts = [f"{what}_{direction}" for what in ("bytes", "packets") for direction in ("forth", "back")]
    rest = (*(F.bool_or(name).alias(name) for name in _BEGAN), F.min("start").alias("start"), F.max("end").alias("end"))
    seen = ends.groupBy(*_FIVE, "interface_id").agg(*(F.sum(name).alias(name) for name in amounts), *rest, F.count("*").alias("records"))
    joined = seen.groupBy(_FIVE).agg(*(F.max(name).alias(name) for name in amounts), *rest, F.sum("records").alias("records"))
    judged = joined.withColumn("by_flags", F.col("one_began") != F.col("other_began")).withColumn(
        "forth", F.when(F.col("by_flags"), F.col("one_began")).otherwise(F.col("one_port") >= F.col("other_port"))
    )
    return judged.select(
        way("one", "other").alias("initiator_addr"),
        way("one_port", "other_port").alias("initiator_port"),
        way("other", "one").alias("responder_addr"),
        way("other_port", "one_port").alias("responder_port"),
        "protocol",
        way("bytes_forth", "bytes_back").alias("bytes_sent"),
        way("bytes_back", "bytes_forth").alias("bytes_received"),
        way("packets_forth", "packets_back").alias("packets_sent"),
        way("packets_back", "packets_forth").alias("packets_received"),
        "records",
        F.timestamp_seconds("start").alias("first_start"),
        F.timestamp_seconds("end").alias("last_end"),
        "by_flags",
    )


def main() -> int:
    """Run one task."""
    task, day, output = arguments()
    spark = SparkSession.builder.getOrCreate()
    rows = logged(spark, day)

    def write(name: str, table: DataFrame) -> str:
        table.write.parquet(str(output / name), mode="overwrite", compression="zstd")
        return str(output / name)

    if task in "ad":
        times = {f"{name}_time": F.timestamp_seconds(name) for name in ("start", "end")}
        written = write("a", rows.withColumns(times))
        rows = spark.read.schema(rows.schema).parquet(written)
    if task in "bd":
        write("b", totals(rows))
    if task in "cd":
        write("c", connections(rows))
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
