"""The steps of a day, in order: each reads its inputs, replaces its tables whole, and returns its part of the summary."""

from __future__ import annotations

import time

from pyspark.sql import SparkSession

import flowlog_udfs
from flowlog_udfs.arguments import STEP_NAMES
from flowlog_udfs.compliance import day_rows
from flowlog_udfs.counts import ingest_counts, initiation_counts, report_counts, totals_counts, translation_counts
from flowlog_udfs.day_arguments import DayArguments, Step
from flowlog_udfs.doubts import provisional_note, stale_note
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.ingest import OBJECTS, held_elsewhere, ingest_day
from flowlog_udfs.initiation import attribute_day
from flowlog_udfs.ledger import versions
from flowlog_udfs.reporting import is_standing, report_day
from flowlog_udfs.selection import list_source
from flowlog_udfs.summary import ingest_summary, initiation_summary, report_summary, totals_summary, translation_summary
from flowlog_udfs.totals import total_day
from flowlog_udfs.translation import map_day


def ingest_records(spark: SparkSession, arguments: DayArguments) -> str:
    """Source to tables `objects`, `records`, `records_tgw`, `rejects`, `coverage`; raises `DayLimitError` when the day breaks a limit."""
    began = time.monotonic()
    ingested = ingest_day(spark, arguments.selection, arguments.warehouse, arguments.config, arguments.inventory, arguments.now)
    arguments.counts.update(ingest_counts(ingested, arguments.now))
    summary = ingest_summary(ingested, arguments.selection.day, time.monotonic() - began)
    if ingested.broken_limit:
        raise DayLimitError(f"{ingested.broken_limit}: only objects, rejects and coverage were replaced", summary)
    return summary


def attribute_initiators(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `records` to `connections`, and to `nat_legs` and `tallies`, of which the next steps make theirs."""
    done = attribute_day(spark, arguments.warehouse, arguments.selection.day, arguments.config, arguments.inventory, arguments.now)
    arguments.counts.update(initiation_counts(done))
    return initiation_summary(done)


def map_nat(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `nat_legs` to `nat_mappings`; what only pairs tell goes into `connections`."""
    done = map_day(spark, arguments.warehouse, arguments.selection.day, arguments.now)
    arguments.counts.update(translation_counts(done))
    return translation_summary(done)


def total_subnet_bytes(spark: SparkSession, arguments: DayArguments) -> str:
    """Table `tallies` to `subnet_bytes` and `reconciliation`; raises `ReconciliationError` when a byte is missing."""
    done = total_day(spark, arguments.warehouse, arguments.selection.day, arguments.now)
    arguments.counts.update(totals_counts(done))
    return totals_summary(done)


def report_compliance(spark: SparkSession, arguments: DayArguments) -> str:
    """All tables to `findings`, `assessments`, `runs` and the report; tells those who want to know."""
    day = arguments.selection.day
    done = report_day(spark, arguments.warehouse, day, arguments.policy, arguments.config, arguments.inventory, arguments.now)
    arguments.counts.update(report_counts(done))
    summary = report_summary(done)
    arguments.notices.send(done.document, done.url)
    return summary


def remaining(arguments: DayArguments) -> tuple[str, ...]:
    """The steps that a day still needs: none where its report was made from the same objects, settings, policy, inventory and release.

    A day that leans on one worked out anew since needs all, and so does one whose tables are of several runs, the last one stopped.
    Where only what is known of its late rows has changed, the report is made anew.
    """
    day, warehouse, config = arguments.selection.day, arguments.warehouse, arguments.config
    latest = versions(warehouse, day)[-1:]
    wanted = {
        "code_version": flowlog_udfs.__version__,
        "config_digest": config.digest(),
        "policy_digest": arguments.policy.digest(),
        "inventory_digest": arguments.inventory.digest() if arguments.inventory else None,
    }
    if (
        not latest
        or any(latest[0][name] != value for name, value in wanted.items())
        or not is_standing(warehouse, day, latest[0]["digest"])
    ):
        return STEP_NAMES
    _, listing = list_source(arguments.selection, config, held_elsewhere(warehouse, day))
    listed = {(one.stored.key, one.stored.etag) for one in listing.objects}
    read = day_rows(warehouse, OBJECTS, day, ["key", "etag"])
    if listed != {(row["key"], row["etag"]) for row in read} or stale_note(warehouse, day):
        return STEP_NAMES
    up_to_date = (provisional_note(warehouse, day, config.ingest.late_hours), None)
    return () if (latest[0]["provisional"], latest[0]["stale"]) == up_to_date else STEP_NAMES[-1:]


STEPS: dict[str, Step] = dict(
    zip(STEP_NAMES, (ingest_records, attribute_initiators, map_nat, total_subnet_bytes, report_compliance), strict=True)
)
