"""What all jobs share: the arguments, the exit status, and the lines that a person reads while a job works."""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import NoReturn

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from flowlog_udfs.config import Config, load_config
from flowlog_udfs.errors import FlowlogError, StorageError, UsageError
from flowlog_udfs.ingest import Selection
from flowlog_udfs.inventory import Inventory, load_inventory
from flowlog_udfs.tables import Warehouse


@dataclass(frozen=True)
class DayArguments:
    """What a job of one day was asked to do. `now` is the only clock of a run."""

    selection: Selection
    warehouse: Warehouse
    config: Config
    inventory: Inventory | None
    until: str | None
    now: datetime


Step = Callable[[SparkSession, DayArguments], str]
"""A step of a day: reads its inputs, replaces its tables, and returns its part of the summary."""


class _Parser(argparse.ArgumentParser):
    """Argparse with wrong use as an error of ours, so that all errors end the same way."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def parse_day(description: str, argv: Sequence[str] | None, steps: Sequence[str]) -> DayArguments:
    """Read the arguments that every job of one day takes; raises `UsageError` with what to mend."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--source", required=True, help="folder or s3://bucket[/prefix] that holds AWSLogs/")
    parser.add_argument("--warehouse", required=True, help="folder or s3://bucket/prefix of the tables")
    parser.add_argument("--day", required=True, type=_day, help="UTC day, YYYY-MM-DD")
    parser.add_argument("--account", action="append", default=[], help="only this account's flow logs (repeatable; default: all)")
    parser.add_argument("--region", action="append", default=[], help="only this Region's flow logs (repeatable; default: all)")
    parser.add_argument("--config", metavar="FILE", help="flowlog.toml (default: built-in settings)")
    parser.add_argument("--inventory", metavar="FILE", type=_file, help="subnets and interfaces of the day")
    parser.add_argument("--policy", metavar="FILE", type=_file, help="policy.toml, the rules of the compliance report")
    parser.add_argument("--table-format", choices=("delta", "parquet"), default="delta", help="format of the tables (default: delta)")
    parser.add_argument("--until", choices=tuple(steps), help="stop after this step")
    given = parser.parse_args(argv)
    return DayArguments(
        selection=Selection(given.source, given.day, frozenset(given.account), frozenset(given.region)),
        warehouse=Warehouse.open(given.warehouse, given.table_format),
        config=load_config(given.config),
        inventory=load_inventory(given.inventory) if given.inventory else None,
        until=given.until,
        now=datetime.now(timezone.utc),
    )


def run_steps(description: str, steps: dict[str, Step], session: Callable[[], SparkSession], argv: Sequence[str] | None = None) -> int:
    """Run steps in order up to `--until`, print their summaries, and return the exit status.

    0 done; 1 wrong use or configuration; 2 the day breaks a stated limit; 3 storage or engine failure. `session` is called only once the
    arguments are known to be right.
    """
    try:
        arguments = parse_day(description, argv, tuple(steps))
        spark = session()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        for name, step in steps.items():
            _say(f"{name}: {arguments.selection.day} …")
            began = time.monotonic()
            summary = step(spark, arguments)
            _say(f"{name}: done in {time.monotonic() - began:.1f} s")
            print(summary, flush=True)
            if name == arguments.until:
                break
    except FlowlogError as error:
        _say(str(error))
        return error.exit_status
    except PySparkException as error:
        _say(f"Spark failed: {_reason(str(error)) or type(error).__name__}")
        return StorageError.exit_status
    except Exception:
        # Whatever is left is a fault of flowlog or its engine: Python's own status for it is 1, which here means wrong use.
        traceback.print_exc()
        return StorageError.exit_status
    return 0


def _say(line: str) -> None:
    print(f"flowlog: {line}", file=sys.stderr, flush=True)


def _reason(message: str) -> str:
    """One line of an engine's message: the error that a Python worker raised, if there is one, else the first line."""
    lines = [line.strip() for line in message.splitlines()]
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception): ", line)]
    return raised[-1] if raised else next(filter(None, lines), "")


def _day(text: str) -> date:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        day = None
    if day is None or str(day) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write YYYY-MM-DD")
    return day


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path
