"""What all jobs share: the arguments, the exit status, and the lines that a person reads while a job works."""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from flowlog_udfs.arguments import STEP_NAMES, Parser, add_day_arguments
from flowlog_udfs.compliance import day_rows
from flowlog_udfs.config import Config, load_config
from flowlog_udfs.engines import ENGINES, engine_session
from flowlog_udfs.errors import DayLimitError, FlowlogError, StorageError, UsageError
from flowlog_udfs.ingest import Selection
from flowlog_udfs.inventory import Inventory, load_inventory
from flowlog_udfs.key_lists import refuse_wrong_keys
from flowlog_udfs.keys import open_source
from flowlog_udfs.notices import Notices
from flowlog_udfs.policy.findings import FINDINGS_TABLE, SUPPRESSED
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import SEVERITIES, Policy
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
    engine: str = ENGINES[0]
    notices: Notices = field(default_factory=Notices)


Step = Callable[[SparkSession, DayArguments], str]
"""A step of a day: reads its inputs, replaces its tables, and returns its part of the summary."""
Remaining = Callable[[DayArguments], Sequence[str]]
"""The steps that a day still needs; none when it was run before from the same inputs."""


def parse_days(description: str, argv: Sequence[str] | None, steps: Sequence[str], *, backfills: bool = False) -> list[DayArguments]:
    """Read the arguments that every job of one day takes (`backfills`: or of several); raises `UsageError` with what to mend."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add_day_arguments(parser, steps, backfills=backfills)
    return days_given(parser.parse_args(argv))


def days_given(given: argparse.Namespace) -> list[DayArguments]:
    """The days that arguments of `add_day_arguments` ask for; reads the files that they name, and raises `UsageError` for what is wrong."""
    wanted = _days(given)
    inventory = load_inventory(given.inventory) if given.inventory else None
    config, policy, warehouse = load_config(given.config), load_policy(given.policy), Warehouse.open(given.warehouse, given.table_format)
    if given.keys:
        refuse_wrong_keys(given.keys, given.source)
    elif given.source:
        open_source(given.source)
    return [
        DayArguments(
            selection=Selection(given.source or "", day, frozenset(given.account), frozenset(given.region), given.keys),
            warehouse=warehouse,
            config=config,
            inventory=inventory,
            policy=policy,
            until=given.until,
            now=datetime.now(timezone.utc),
            fail_on=given.fail_on,
            engine=given.engine,
            notices=Notices(given.notify, given.notify_topic),
        )
        for day in wanted
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
    remaining: Remaining | None = None,
) -> int:
    """Run steps in order up to `--until`, print their summaries, and return the exit status.

    0 done; 1 wrong use or configuration; 2 the day breaks a stated limit; 3 storage or engine failure. `session` gives Spark's, and is
    called only once the arguments are known to be right, and not for `--engine sail`. With `remaining` the job takes several days: what one
    does not need any more is passed over, one that breaks a limit does not keep the others from being run, and the gravest status is
    returned.
    """
    with ExitStack() as ending:
        try:
            days = parse_days(description, argv, tuple(steps), backfills=remaining is not None)
            spark = ending.enter_context(engine_session(days[0].engine, session))
            spark.conf.set("spark.sql.session.timeZone", "UTC")
        except Exception as error:
            return _status(error)
        return _run_days(spark, days, steps, remaining)


def _run_days(spark: SparkSession, days: Sequence[DayArguments], steps: dict[str, Step], remaining: Remaining | None) -> int:
    worst, touched, failed = 0, set[date](), set[date]()
    for arguments, names in _in_turn(days, tuple(steps)):
        day = arguments.selection.day
        if day in failed:
            continue
        try:
            if remaining is not None and len(days) > 1 and day not in touched:
                needed = remaining(arguments)
                names = [name for name in names if name in needed]
            for name in names:
                touched.add(day)
                _run_step(spark, name, steps[name], arguments)
        except Exception as error:
            failed.add(day)
            worst = max(worst, _status(error))
            if worst >= StorageError.exit_status:
                return worst
    for day in sorted({arguments.selection.day for arguments in days} - touched - failed):
        _say(f"{day}: run before from the same inputs, passed over")
    reported = [one for one in days if one.selection.day not in failed] if days[0].until in (None, STEP_NAMES[-1]) else []
    for arguments in reported if STEP_NAMES[-1] in steps else ():
        try:
            _refuse_grave_findings(arguments)
        except Exception as error:
            worst = max(worst, _status(error))
    return worst


def _refuse_grave_findings(arguments: DayArguments) -> None:
    """Raise `DayLimitError` for open findings that `--fail-on` asks for, be the day's report of this run or of an earlier one."""
    grave = SEVERITIES[: SEVERITIES.index(arguments.fail_on) + 1] if arguments.fail_on else ()
    found = day_rows(arguments.warehouse, FINDINGS_TABLE, arguments.selection.day, ["severity", "status"]) if grave else []
    count = sum(one["severity"] in grave and one["status"] != SUPPRESSED for one in found)
    if count:
        day = arguments.selection.day
        raise DayLimitError(f"{day}: {count:,} findings of severity {arguments.fail_on} or graver are open (--fail-on); the report is done")


def _in_turn(days: Sequence[DayArguments], names: Sequence[str]) -> Iterator[tuple[DayArguments, Sequence[str]]]:
    """The days and their steps up to `--until`. Of several days, each one's last step waits for the steps before it of the next day, whose
    objects tell which rows came late.
    """
    until = days[0].until
    wanted = names[: names.index(until) + 1] if until else names
    held = len(wanted) - (len(days) > 1 and len(wanted) == len(names))
    for before, day in zip((None, *days), (*days, None), strict=True):
        if day:
            yield day, wanted[:held]
        if before and wanted[held:]:
            yield before, wanted[held:]


def _run_step(spark: SparkSession, name: str, step: Step, arguments: DayArguments) -> None:
    _say(f"{name}: {arguments.selection.day} …")
    began = time.monotonic()
    summary = step(spark, arguments)
    _say(f"{name}: done in {time.monotonic() - began:.1f} s")
    print(summary, flush=True)


def _status(error: Exception) -> int:
    """Say what went wrong in one line, and give its exit status."""
    if isinstance(error, FlowlogError):
        _say(str(error))
        return error.exit_status
    if isinstance(error, PySparkException | Py4JError):
        _say(f"the engine failed: {_reason(str(error)) or type(error).__name__}")
    elif isinstance(error, OSError):
        _say(f"the storage failed: {' '.join(str(error).split())}")
    else:
        # Whatever is left is a fault of flowlog or its engine: Python's own status for it is 1, which here means wrong use.
        traceback.print_exception(error)
    return StorageError.exit_status


def _say(line: str) -> None:
    print(f"flowlog: {line}", file=sys.stderr, flush=True)


def _reason(message: str) -> str:
    """One line of an engine's message: the error that a Python worker raised, if there is one, else what Spark says of it, of the causes in
    a stack of Java's the first.
    """
    lines = [line.strip() for line in message.splitlines()]
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception): ", line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (raised[-1:] or causes or [*filter(None, lines)] or [""])[0]
