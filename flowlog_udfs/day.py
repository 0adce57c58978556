"""The steps of a day, in order: each reads its inputs, replaces its tables whole, and returns its part of the summary."""

from __future__ import annotations

import time

from pyspark.sql import SparkSession

from flowlog_udfs.cli import DayArguments, Step
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.ingest import ingest_day
from flowlog_udfs.summary import ingest_summary


def ingest_records(spark: SparkSession, arguments: DayArguments) -> str:
    """Source to tables `objects`, `records`, `records_tgw` and `rejects`; raises `DayLimitError` when the day breaks a limit."""
    began = time.monotonic()
    ingested = ingest_day(spark, arguments.selection, arguments.warehouse, arguments.config, arguments.now)
    summary = ingest_summary(ingested, arguments.selection.day, time.monotonic() - began)
    if ingested.broken_limit:
        print(summary)
        raise DayLimitError(f"{ingested.broken_limit}: only objects and rejects were replaced")
    return summary


STEPS: dict[str, Step] = {"ingest_records": ingest_records}
