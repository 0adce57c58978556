"""What all jobs share: the steps of days run in order, and the exit status."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from functools import partial

from pyspark.sql import SparkSession

from flowlog_udfs.arguments import STEP_NAMES, Parser, add_maintenance
from flowlog_udfs.compliance import day_rows
from flowlog_udfs.config import load_config
from flowlog_udfs.day_arguments import DayArguments, Remaining, Step, days_of, parse_days
from flowlog_udfs.engines import engine_session
from flowlog_udfs.errors import DayLimitError, StorageError, one_line
from flowlog_udfs.maintenance import Upkeep, maintain, refuse_wrong_retention
from flowlog_udfs.policy.findings import FINDINGS_TABLE, SUPPRESSED
from flowlog_udfs.policy.model import SEVERITIES
from flowlog_udfs.tables import Warehouse
from flowlog_udfs.telling import Telling
from flowlog_udfs.verification import verify_day


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
    telling = Telling.of(argv)
    with ExitStack() as ending:
        try:
            days = parse_days(description, argv, tuple(steps), backfills=remaining is not None)
            warehouse = telling.begin(days[0].warehouse, [one.selection.day for one in days], days[0].config.cost)
            days = [replace(one, warehouse=warehouse) for one in days]
            spark = ending.enter_context(engine_session(days[0].engine, session))
            spark.conf.set("spark.sql.session.timeZone", "UTC")
        except Exception as error:
            return telling.end(telling.log.failed(error))
        run = _Run(spark, steps, telling)
        return telling.end(run.verify(days) if days[0].verify else run.days(days, remaining))


@dataclass(frozen=True)
class _Run:
    """Days on their way through the steps."""

    spark: SparkSession
    steps: dict[str, Step]
    telling: Telling

    def days(self, days: Sequence[DayArguments], remaining: Remaining | None) -> int:
        """Run the days; returns the gravest status."""
        worst, touched, failed = 0, set[date](), set[date]()
        for arguments, names in _in_turn(days, tuple(self.steps)):
            day = arguments.selection.day
            if day in failed:
                continue
            name = None
            try:
                if remaining is not None and len(days) > 1 and day not in touched:
                    needed = remaining(arguments)
                    names = [name for name in names if name in needed]
                for name in names:
                    touched.add(day)
                    self._timed(name, arguments, partial(self.steps[name], self.spark))
            except Exception as error:
                failed.add(day)
                worst = max(worst, self.telling.log.failed(error, day=day, step=name))
                if worst >= StorageError.exit_status:
                    break
        is_stopped = worst >= StorageError.exit_status
        passed_over = set() if is_stopped else {one.selection.day for one in days} - touched - failed
        self.telling.measured.add({"days": {"done": len(touched - failed), "failed": len(failed), "passed_over": len(passed_over)}})
        if is_stopped:
            return worst
        for day in sorted(passed_over):
            self.telling.log.say("passed_over", f"{day}: run before from the same inputs, passed over", day=day)
        reports = STEP_NAMES[-1] in self.steps and days[0].until in (None, STEP_NAMES[-1])
        for arguments in days if reports else ():
            if arguments.selection.day in failed:
                continue
            try:
                _refuse_grave_findings(arguments)
            except Exception as error:
                worst = max(worst, self.telling.log.failed(error, day=arguments.selection.day))
        return worst

    def verify(self, days: Sequence[DayArguments]) -> int:
        """Compare the days' tables with what their objects give; returns the gravest status."""
        worst = 0
        for arguments in days:
            names = tuple(self.steps)
            steps = {name: self.steps[name] for name in names[: names.index(arguments.until or names[-1]) + 1]}
            work = partial(verify_day, self.spark, steps)
            try:
                self._timed("verify", arguments, work)
            except Exception as error:
                worst = max(worst, self.telling.log.failed(error, day=arguments.selection.day, step="verify"))
                if worst >= StorageError.exit_status:
                    break
        return worst

    def _timed(self, name: str, arguments: DayArguments, work: Callable[[DayArguments], str]) -> None:
        """Do one piece of work and print its summary; what it counted is told, and kept, even if it fails."""
        log, day = self.telling.log, arguments.selection.day
        log.say("step_started", f"{name}: {day} …", day=day, step=name)
        began = time.monotonic()
        arguments = replace(arguments, counts={})
        try:
            summary = work(arguments)
            if name == STEP_NAMES[-1]:
                ended = datetime.combine(day + timedelta(days=1), time_of_day(), timezone.utc)
                arguments.counts["report_lag_seconds"] = (datetime.now(timezone.utc) - ended).total_seconds()
        finally:
            seconds = time.monotonic() - began
            self.telling.measured.add({**arguments.counts, "step_seconds": {name: seconds}})
        log.say("step_done", f"{name}: done in {seconds:.1f} s", day=day, step=name, counts=arguments.counts, seconds=round(seconds, 3))
        log.show(summary, day=day, step=name)


def run_maintenance(description: str, argv: Sequence[str] | None = None, show: Callable[[list[Upkeep]], None] | None = None) -> int:
    """Keep up the tables of a warehouse and return the exit status; `show` is given what was done, or it is printed."""
    telling = Telling.of(argv)
    try:
        parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        add_maintenance(parser)
        given = parser.parse_args(argv)
        days = days_of(given) if given.day or given.first or given.last else None
        config, opened = load_config(given.config), Warehouse.open(given.warehouse, given.table_format)
        refuse_wrong_retention(given.retain_days)
        warehouse = telling.begin(opened, days or (), config.cost)
        done = []
        for one in maintain(warehouse, days, retain_days=given.retain_days, dry_run=given.dry_run, now=datetime.now(timezone.utc)):
            done.append(one)
            telling.measured.add({} if given.dry_run else one.counts())
            telling.log.note("maintained", one.name or "warehouse", step="maintain_tables", counts=one.counts())
            for line in one.lines() if show is None else ():
                telling.log.show(one_line(line), step="maintain_tables")
        if show is not None:
            show(done)
        elif not any(list(one.lines()) for one in done):
            telling.log.show("nothing to do", step="maintain_tables")
    except Exception as error:
        return telling.end(telling.log.failed(error, step="maintain_tables"))
    return telling.end(0)


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
