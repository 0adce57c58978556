"""What all jobs share: the arguments, the exit status, and the lines that a person reads while a job works."""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from flowlog_udfs.arguments import Parser, add_day_arguments
from flowlog_udfs.config import Config, load_config
from flowlog_udfs.errors import FlowlogError, StorageError, UsageError
from flowlog_udfs.ingest import Selection
from flowlog_udfs.inventory import Inventory, load_inventory
from flowlog_udfs.notices import Notices
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import Policy
from flowlog_udfs.tables import Warehouse


@dataclass(frozen=True)
class DayArguments:
    """What a job was asked to do with one day. `now` is the only clock of a run."""

    selection: Selection
    warehouse: Warehouse
    config: Config
    inventory: Inventory | None
    policy: Policy
    until: str | None
    now: datetime
    fail_on: str | None = None
    notices: Notices = field(default_factory=Notices)


Step = Callable[[SparkSession, DayArguments], str]
"""A step of a day: reads its inputs, replaces its tables, and returns its part of the summary."""
IsDone = Callable[[DayArguments], bool]
"""Whether a day was run before from the same inputs."""


def parse_days(description: str, argv: Sequence[str] | None, steps: Sequence[str], *, backfills: bool = False) -> list[DayArguments]:
    """Read the arguments that every job of one day takes (`backfills`: or of several); raises `UsageError` with what to mend."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add_day_arguments(parser, steps, backfills=backfills)
    return days_given(parser.parse_args(argv))


def days_given(given: argparse.Namespace) -> list[DayArguments]:
    """The days that arguments of `add_day_arguments` ask for; reads the files that they name, and raises `UsageError` for what is wrong."""
    inventory = load_inventory(given.inventory) if given.inventory else None
    config, policy, warehouse = load_config(given.config), load_policy(given.policy), Warehouse.open(given.warehouse, given.table_format)
    return [
        DayArguments(
            selection=Selection(given.source or "", day, frozenset(given.account), frozenset(given.region)),
            warehouse=warehouse,
            config=config,
            inventory=inventory,
            policy=policy,
            until=given.until,
            now=datetime.now(timezone.utc),
            fail_on=given.fail_on,
            notices=Notices(given.notify, given.notify_topic),
        )
        for day in _days(given)
    ]


def _days(given: argparse.Namespace) -> list[date]:
    first, last = getattr(given, "first", None), getattr(given, "last", None)
    if given.day and not (first or last):
        return [given.day]
    if given.day or not (first and last):
        raise UsageError("give --day, or --from and --to; see --help")
    if last < first:
        raise UsageError(f"--to {last} is before --from {first}; give them in order")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def run_steps(
    description: str,
    steps: dict[str, Step],
    session: Callable[[], SparkSession],
    argv: Sequence[str] | None = None,
    is_done: IsDone | None = None,
) -> int:
    """Run steps in order up to `--until`, print their summaries, and return the exit status.

    0 done; 1 wrong use or configuration; 2 the day breaks a stated limit; 3 storage or engine failure. `session` is called only once the
    arguments are known to be right. With `is_done` the job takes several days: one that is done already is passed over, one that breaks a
    limit does not keep the others from being run, and the gravest status is returned.
    """
    try:
        days = parse_days(description, argv, tuple(steps), backfills=is_done is not None)
        spark = session()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    except Exception as error:
        return _status(error)
    worst = 0
    for arguments in days:
        try:
            if len(days) > 1 and is_done is not None and is_done(arguments):
                _say(f"{arguments.selection.day}: run before from the same inputs, passed over")
                continue
            _run_day(spark, steps, arguments)
        except Exception as error:
            worst = max(worst, _status(error))
            if worst >= StorageError.exit_status:
                break
    return worst


def _run_day(spark: SparkSession, steps: dict[str, Step], arguments: DayArguments) -> None:
    for name, step in steps.items():
        _say(f"{name}: {arguments.selection.day} …")
        began = time.monotonic()
        summary = step(spark, arguments)
        _say(f"{name}: done in {time.monotonic() - began:.1f} s")
        print(summary, flush=True)
        if name == arguments.until:
            break


def _status(error: Exception) -> int:
    """Say what went wrong in one line, and give its exit status."""
    if isinstance(error, FlowlogError):
        _say(str(error))
        return error.exit_status
    if isinstance(error, PySparkException):
        _say(f"Spark failed: {_reason(str(error)) or type(error).__name__}")
    else:
        # Whatever is left is a fault of flowlog or its engine: Python's own status for it is 1, which here means wrong use.
        traceback.print_exception(error)
    return StorageError.exit_status


def _say(line: str) -> None:
    print(f"flowlog: {line}", file=sys.stderr, flush=True)


def _reason(message: str) -> str:
    """One line of an engine's message: the error that a Python worker raised, if there is one, else the first line."""
    lines = [line.strip() for line in message.splitlines()]
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception): ", line)]
    return raised[-1] if raised else next(filter(None, lines), "")
