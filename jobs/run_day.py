"""The main job: one UTC day of flow logs, from a source to every table of a warehouse.

spark-submit --properties-file conf/spark-local.conf jobs/run_day.py --source SRC --warehouse DIR --day YYYY-MM-DD

With --from and --to instead of --day: every day in between, one by one; a job that was stopped goes on where it was.
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, STEPS, SparkSession.builder.getOrCreate, remaining=remaining))
