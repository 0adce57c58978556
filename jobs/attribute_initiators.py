"""One step of a day: table records to connections, with who initiated each, and to nat_legs and tallies for the steps after it.

spark-submit --properties-file conf/spark-local.conf jobs/attribute_initiators.py --source SRC --warehouse DIR --day YYYY-MM-DD
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import attribute_initiators

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, {"attribute_initiators": attribute_initiators}, SparkSession.builder.getOrCreate))
