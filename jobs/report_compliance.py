"""The last step of a day: all tables to findings, assessments, runs and the report, by the rules of a policy.

spark-submit --properties-file conf/spark-local.conf jobs/report_compliance.py --source SRC --warehouse DIR --day YYYY-MM-DD --policy FILE
"""

import sys

from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import report_compliance

if __name__ == "__main__":
    sys.exit(run_steps(__doc__, {"report_compliance": report_compliance}, SparkSession.builder.getOrCreate))
