"""`flowlog maintain`: the upkeep of tables."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from flowlog_udfs.arguments import Parser, add_maintenance
from flowlog_udfs.command.output import Output
from flowlog_udfs.command.submission import job_words

if TYPE_CHECKING:
    from flowlog_udfs.maintenance import Upkeep

HELP = "keep up the tables: merge small files, remove what nobody needs any more (jobs/maintain_tables.py); starts no Spark"
EXAMPLE = "flowlog maintain --warehouse s3://my-tables/flowlog --dry-run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the job."""
    add_maintenance(parser)


def execute(given: argparse.Namespace, output: Output) -> int:
    """Run the job in this process; as JSON, what was done for each table."""
    from flowlog_udfs.cli import run_maintenance

    own = Parser(add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")

    def show(done: list[Upkeep]) -> None:
        output.show([asdict(one) for one in done], lambda console: None)

    return run_maintenance(HELP, job_words(given.words, own), show if output.as_json else None)
