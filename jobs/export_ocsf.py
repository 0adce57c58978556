"""Write a day's connections as OCSF Network Activity events: a table, and JSON lines where they are asked for.

spark-submit --properties-file conf/spark-local.conf jobs/export_ocsf.py --warehouse DIR --day YYYY-MM-DD --json-lines DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from pyspark.sql import SparkSession

from flowlog_udfs.arguments import Parser, add_engine, add_warehouse, day, file
from flowlog_udfs.catalog import refuse_taken
from flowlog_udfs.engines import engine_session
from flowlog_udfs.errors import UsageError
from flowlog_udfs.ocsf.exporting import export_day
from flowlog_udfs.pseudonyms import Pseudonyms
from flowlog_udfs.run_log import RunLog
from flowlog_udfs.storage import open_storage
from flowlog_udfs.tables import Warehouse


def main(session: Callable[[], SparkSession], argv: Sequence[str] | None = None) -> int:
    """Export and say how many events there are; the exit status is 0, or the error's."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add_warehouse(parser)
    add_engine(parser)
    parser.add_argument("--day", required=True, type=day, help="UTC day of table connections")
    parser.add_argument("--json-lines", metavar="DIR|s3://…", help="folder or bucket prefix of day=D/part-NNNNN.jsonl.gz (default: none)")
    parser.add_argument("--pseudonyms", metavar="KEYFILE", type=file, help="JSON lines only, under pseudonyms by the key in this file")
    try:
        given = parser.parse_args(argv)
        lines = open_storage(given.json_lines) if given.json_lines else None
        pseudonyms = Pseudonyms.load(given.pseudonyms) if given.pseudonyms else None
        if pseudonyms and not lines:
            raise UsageError("--pseudonyms: the table keeps the names; give --json-lines too")
        warehouse = Warehouse.open(given.warehouse, given.table_format)
        if lines:
            refuse_taken(warehouse, *lines, "--json-lines")
        with engine_session(given.engine, session) as spark:
            count = export_day(spark, warehouse, given.day, datetime.now(timezone.utc), lines, pseudonyms)
    except Exception as error:
        return RunLog().failed(error)
    places = [*([] if pseudonyms else ["in table ocsf_network_activity"]), *([f"in {given.json_lines}"] if lines else [])]
    print(f"{given.day}: {count:,} events {', and '.join(places)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(SparkSession.builder.getOrCreate))
