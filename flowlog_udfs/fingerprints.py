"""A table's day in two numbers that tell whether two are equal: how many rows, and a digest in which their order has no part.

The digest is the sum of the SHA-256 of each row, taken as text; nothing leaves the workers but sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from flowlog_udfs.tables import Table, Warehouse

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_LANES = 4
"""Sums of 60 bits of the hash each: a billion of them stay far below a DECIMAL(38)."""
_HEX = 15


@dataclass(frozen=True)
class Compared:
    """How rows are compared: without some columns, and with rows that are alike but for the `summed` ones added up."""

    without: Sequence[str] = ()
    summed: Sequence[str] = ()


@dataclass(frozen=True)
class Fingerprint:
    """Rows, and the digest of them all in hexadecimal."""

    rows: int
    digest: str


NO_ROWS = Fingerprint(0, "0" * _LANES * _HEX)


def fingerprints(
    spark: SparkSession, warehouses: tuple[Warehouse, Warehouse], table: Table, day: date, how: Compared
) -> tuple[Fingerprint, Fingerprint]:
    """Those of a table's day in each warehouse."""
    from pyspark.sql import functions as F

    pieces = (F.conv(F.substring("hash", 1 + lane * _HEX, _HEX), 16, 10).cast("decimal(38,0)") for lane in range(_LANES))
    sums = _row_hashes(spark, warehouses, table, day, how).groupBy("place").agg(F.count("*"), *(F.sum(piece) for piece in pieces))
    found = {place: Fingerprint(rows, "".join(f"{int(lane) % (1 << 60):015x}" for lane in lanes)) for place, rows, *lanes in sums.collect()}
    return found.get(0, NO_ROWS), found.get(1, NO_ROWS)


def differences(spark: SparkSession, warehouses: tuple[Warehouse, Warehouse], table: Table, day: date, how: Compared) -> tuple[int, int]:
    """How many rows only the first warehouse has of a table's day, and how many only the second."""
    from pyspark.sql import functions as F

    surplus = _row_hashes(spark, warehouses, table, day, how).groupBy("hash").agg(F.sum(1 - 2 * F.col("place")).alias("surplus"))
    lost, added = (F.coalesce(F.sum(F.when(sign * F.col("surplus") > 0, F.abs("surplus"))), F.lit(0)) for sign in (1, -1))
    (found,) = surplus.agg(lost, added).collect()
    return found[0], found[1]


def _row_hashes(spark: SparkSession, warehouses: tuple[Warehouse, Warehouse], table: Table, day: date, how: Compared) -> DataFrame:
    """Columns `place`, that of the row's warehouse among these, and `hash`."""
    from pyspark.sql import functions as F

    first, second = (one.read(spark, table, day).withColumn("place", F.lit(place)) for place, one in enumerate(warehouses))
    rows = first.unionByName(second)
    fields = [field for field in table.schema if field.name not in how.without]
    if how.summed:
        alike = [field.name for field in fields if field.name not in how.summed]
        rows = rows.groupBy("place", *alike).agg(*(F.sum(name).alias(name) for name in how.summed))
    text = F.to_json(F.struct(*map(_comparable, fields)), {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"})
    return rows.select("place", F.sha2(text, 256).alias("hash"))


def _comparable(field: pa.Field) -> Column:
    """A column as text can hold it: the entries of a map in the order of their keys."""
    from pyspark.sql import functions as F

    if pa.types.is_map(field.type):
        return F.sort_array(F.map_entries(field.name)).alias(field.name)
    return F.col(field.name)
