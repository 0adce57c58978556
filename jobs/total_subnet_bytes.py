"""One step of a day: table tallies to subnet_bytes and reconciliation, how many bytes each subnet moved and where every other byte went.

spark-submit --properties-file conf/spark-local.conf jobs/total_subnet_bytes.py --source SRC --warehouse DIR --day YYYY-MM-DD
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import total_subnet_bytes

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, {"total_subnet_bytes": total_subnet_bytes}, SparkSession.builder.getOrCreate))
