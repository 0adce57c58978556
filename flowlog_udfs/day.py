"""The steps of a day, in order: each reads its inputs, replaces its tables whole, and returns its part of the summary."""

from __future__ import annotations

import time

from pyspark.sql import SparkSession

from flowlog_udfs.cli import DayArguments, Step
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.ingest import ingest_day
from flowlog_udfs.initiation import attribute_day
from flowlog_udfs.summary import ingest_summary, initiation_summary, totals_summary, translation_summary
from flowlog_udfs.totals import total_day
from flowlog_udfs.translation import map_day


def ingest_records(spark: SparkSession, arguments: DayArguments) -> str:
    """Source to tables `objects`, `records`, `records_tgw` and `rejects`; raises `DayLimitError` when the day breaks a limit."""
    began = time.monotonic()
    ingested = ingest_day(spark, arguments.selection, arguments.warehouse, arguments.config, arguments.now)
    summary = ingest_summary(ingested, arguments.selection.day, time.monotonic() - began)
    if ingested.broken_limit:
        print(summary)
        raise DayLimitError(f"{ingested.broken_limit}: only objects and rejects were replaced")
    return summary


def attribute_initiators(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `records` to `connections`, and to `nat_legs` and `tallies`, of which the next steps make theirs."""
    day = arguments.selection.day
    return initiation_summary(attribute_day(spark, arguments.warehouse, day, arguments.config, arguments.inventory, arguments.now))


def map_nat(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `nat_legs` to `nat_mappings`; what only pairs tell goes into `connections`."""
    return translation_summary(map_day(spark, arguments.warehouse, arguments.selection.day, arguments.now))


def total_subnet_bytes(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `tallies` to `subnet_bytes` and `reconciliation`; raises `ReconciliationError` when a byte is missing."""
    return totals_summary(total_day(spark, arguments.warehouse, arguments.selection.day, arguments.now))


STEPS: dict[str, Step] = {
    "ingest_records": ingest_records,
    "attribute_initiators": attribute_initiators,
    "map_nat": map_nat,
    "total_subnet_bytes": total_subnet_bytes,
}
