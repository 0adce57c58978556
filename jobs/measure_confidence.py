"""Measure how often the port rules are right: hide the flags of a day's connections, ask the rules, and compare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from flowlog_udfs.arguments import Parser, add_engine, add_warehouse, day
from flowlog_udfs.confidence import ASKED, FEWEST, SOLE_SENDER, Agreement, measure_day
from flowlog_udfs.engines import engine_session
from flowlog_udfs.run_log import RunLog
from flowlog_udfs.services import PortRules, default_services, load_services
from flowlog_udfs.tables import Warehouse


def main(session: Callable[[], SparkSession], argv: Sequence[str] | None = None) -> int:
    """Print the agreement of each basis; the exit status is 0, or the error's."""
    parser = Parser(prog="measure_confidence.py", description=__doc__, allow_abbrev=False)
    add_warehouse(parser)
    add_engine(parser)
    parser.add_argument("--day", required=True, type=day, metavar="YYYY-MM-DD", help="UTC day of table connections")
    parser.add_argument("--services", type=Path, metavar="FILE", help="services.toml (default: the list that comes with flowlog)")
    try:
        given = parser.parse_args(argv)
        ports = PortRules.build(load_services(given.services) if given.services else default_services())
        warehouse = Warehouse.open(given.warehouse, given.table_format)
        with engine_session(given.engine, session) as spark:
            found = measure_day(spark, warehouse, given.day, ports)
    except Exception as error:
        return RunLog().failed(error)
    rows = [("basis", *ASKED, "confidence"), *((one.basis, *(str(one.shares[asked]) for asked in ASKED), told(one)) for one in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n".join("  ".join(map(str.rjust, row, widths)) for row in rows))
    return 0


def told(one: Agreement) -> str:
    """The confidence, or why there is none."""
    if one.confidence is not None:
        return f"{one.confidence:.2f}"
    return "none: right by construction" if one.basis == SOLE_SENDER else f"none: fewer than {FEWEST}"


if __name__ == "__main__":
    sys.exit(main(SparkSession.builder.getOrCreate))
