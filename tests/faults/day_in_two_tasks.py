"""The whole day, of which even a small one is cut into two tasks, so that there is a shuffle between them."""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs import scan, selection
from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining

if __name__ == "__main__":
    selection.SMALLEST_TASK_BYTES = scan.SMALLEST_ROWS = 1
    sys.exit(run_steps(__doc__, STEPS, SparkSession.builder.getOrCreate, remaining=remaining))
