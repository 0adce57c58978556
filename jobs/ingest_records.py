"""One step of a day: flow log objects to tables objects, records, records_tgw and rejects.

spark-submit --properties-file conf/spark-local.conf jobs/ingest_records.py --source SRC --warehouse DIR --day YYYY-MM-DD
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import ingest_records

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, {"ingest_records": ingest_records}, SparkSession.builder.getOrCreate))
