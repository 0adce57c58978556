"""One step of a day: table nat_legs to nat_mappings, what is behind each translated address.

spark-submit --properties-file conf/spark-local.conf jobs/map_nat.py --source SRC --warehouse DIR --day YYYY-MM-DD
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import map_nat

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, {"map_nat": map_nat}, SparkSession.builder.getOrCreate))
