"""What a job was asked to do, from the words of its command line: one `DayArguments` for each day."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from pyspark.sql import SparkSession

from flowlog_udfs.arguments import Parser, add_day_arguments
from flowlog_udfs.config import Config, load_config
from flowlog_udfs.counts import Count
from flowlog_udfs.engines import ENGINES
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory, load_inventory
from flowlog_udfs.key_lists import refuse_wrong_keys
from flowlog_udfs.keys import open_source
from flowlog_udfs.notices import Notices
from flowlog_udfs.peers import AwsRanges
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import Policy
from flowlog_udfs.selection import Selection
from flowlog_udfs.services import load_services
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
    verify: bool = False
    counts: dict[str, Count] = field(default_factory=dict)
    """What the step counted, by name, for logs and metrics: filled by the step, so that a step that fails has told what it knew."""


LONGEST_SPAN = timedelta(days=3_660)
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
    wanted = days_of(given)
    inventory = load_inventory(given.inventory) if given.inventory else None
    config, policy, warehouse = load_config(given.config), load_policy(given.policy), Warehouse.open(given.warehouse, given.table_format)
    _refuse_wrong_lists(config)
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
            verify=getattr(given, "verify", False),
        )
        for day in wanted
    ]


def _refuse_wrong_lists(config: Config) -> None:
    """Read the lists that settings name, so that a wrong one is told before a day is read and not after."""
    if config.attribution.services:
        load_services(Path(config.attribution.services))
    if config.attribution.ip_ranges:
        AwsRanges.load(Path(config.attribution.ip_ranges))


def days_of(given: argparse.Namespace) -> list[date]:
    """The days that are asked for, in order; raises `UsageError` where none are."""
    first, last = getattr(given, "first", None), getattr(given, "last", None)
    if given.day and not (first or last):
        return [given.day]
    if given.day or not (first and last):
        raise UsageError("give --day, or --from and --to; see --help")
    if last < first:
        raise UsageError(f"--to {last} is before --from {first}; give them in order")
    if last - first > LONGEST_SPAN:
        raise UsageError(f"--from {first} --to {last}: are more than {LONGEST_SPAN.days:,} days; give fewer at once")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
