"""The arguments that jobs and the command have in common, and what is wrong with them in one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import NoReturn

from flowlog_udfs.engines import ENGINES
from flowlog_udfs.errors import UsageError
from flowlog_udfs.metrics import METRICS_FORMATS
from flowlog_udfs.policy.model import SEVERITIES
from flowlog_udfs.run_log import LOG_FORMATS

STEP_NAMES = ("ingest_records", "attribute_initiators", "map_nat", "total_subnet_bytes", "report_compliance")
"""The steps of a day, in order; `day.STEPS` has what they do."""
TABLE_FORMATS = ("delta", "parquet")
FIRST_DAY, LAST_DAY = date(1971, 1, 1), date(2999, 12, 31)
"""Around these lie 90 days and more, and Unix time: further off is a slip of the pen."""


class Parser(argparse.ArgumentParser):
    """Argparse with wrong use as an error of ours, so that all errors end the same way."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        raise UsageError(f"{message}; see --help")


def add_day_arguments(parser: argparse.ArgumentParser, steps: Sequence[str], *, backfills: bool = False) -> None:
    """Add what every job of one day takes (`backfills`: or of several); only a job that ingests needs a source."""
    ingests = STEP_NAMES[0] in steps
    add_source(parser, required=ingests)
    parser.add_argument(
        "--keys",
        metavar="SRC",
        help="take the source's objects from a list instead of listing it: manifest.json of an S3 Inventory, a .jsonl file, "
        "or the folder that jobs/collect_keys.py fills (default: list the day's prefixes)",
    )
    add_warehouse(parser)
    add_engine(parser)
    parser.add_argument("--day", required=not backfills, type=day, help="UTC day, YYYY-MM-DD")
    if backfills:
        parser.add_argument("--from", dest="first", type=day, metavar="DAY", help="with --to, instead of --day: every day from here on,")
        parser.add_argument(
            "--to", dest="last", type=day, metavar="DAY", help="up to here; a day run before from the same inputs is passed over"
        )
        if ingests:
            meaning = "replace nothing: work the days out again beside the tables, and compare (status 2: different)"
            parser.add_argument("--verify", action="store_true", help=meaning)
    parser.add_argument("--account", action="append", default=[], help="only this account's flow logs (repeatable; default: all)")
    parser.add_argument("--region", action="append", default=[], help="only this Region's flow logs (repeatable; default: all)")
    parser.add_argument("--config", metavar="FILE", help="flowlog.toml (default: built-in settings)")
    parser.add_argument("--inventory", metavar="FILE", type=file, help="subnets and interfaces of the day")
    parser.add_argument(
        "--policy", metavar="FILE", type=file, help="policy.toml, the rules of the compliance report (default: built-in rules)"
    )
    parser.add_argument("--until", choices=tuple(steps), help="stop after this step")
    parser.add_argument("--fail-on", choices=SEVERITIES, help="end with status 2 when a finding of this severity or a graver one is open")
    parser.add_argument(
        "--notify", metavar="COMMAND", help="run this command when a report is done, with its verdict as JSON on standard input"
    )
    parser.add_argument("--notify-topic", metavar="ARN", help="publish the verdict to this SNS topic when a report is done")
    add_telling(parser)


def add_maintenance(parser: argparse.ArgumentParser) -> None:
    """Add what the upkeep of tables takes: the options of every job, of which it needs few, and its own."""
    add_day_arguments(parser, ("maintain_tables",), backfills=True)
    parser.add_argument(
        "--retain-days",
        type=int,
        metavar="N",
        help="keep former states for so many days, from now on (default, and at least: as the tables say)",
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing: list what would go, with bytes")


def add_telling(parser: argparse.ArgumentParser) -> None:
    """Add how a run is told to those who operate it."""
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default=LOG_FORMATS[0], help="lines for a person, or one JSON object to a line (default: text)"
    )
    parser.add_argument(
        "--metrics", metavar="FILE", type=new_file, help="write the run's figures to this file at its end (-: standard output)"
    )
    parser.add_argument(
        "--metrics-format",
        choices=METRICS_FORMATS,
        default=METRICS_FORMATS[0],
        help="form of the figures: Prometheus text, or CloudWatch's embedded metric format, whose lines are added (default: prometheus)",
    )


def add_source(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add where the flow logs are."""
    meaning = "folder or s3://bucket[/prefix] that holds AWSLogs/"
    parser.add_argument("--source", required=required, help=meaning if required else f"{meaning}; not read by this step")


def add_warehouse(parser: argparse.ArgumentParser) -> None:
    """Add where the tables are, and in which format."""
    parser.add_argument("--warehouse", required=True, help="folder or s3://bucket/prefix of the tables")
    parser.add_argument("--table-format", choices=TABLE_FORMATS, default=TABLE_FORMATS[0], help="format of the tables (default: delta)")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what computes."""
    meaning = "what computes: Apache Spark, or Sail, which needs flowlog[sail] and no JVM (default: spark)"
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help=meaning)


def day(text: str) -> date:
    """A day as YYYY-MM-DD and in no other form."""
    try:
        found = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write YYYY-MM-DD")
    if not FIRST_DAY <= found <= LAST_DAY:
        raise argparse.ArgumentTypeError(f"{text} is no day of flow logs; give one from {FIRST_DAY} to {LAST_DAY}")
    return found


def new_file(text: str) -> Path:
    """The path of a file that can be written: its folder is there."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a file in a folder that is there")
    return path


def file(text: str) -> Path:
    """The path of a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path
