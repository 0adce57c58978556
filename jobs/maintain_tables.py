"""Keep up the tables of a warehouse: merge small files, remove what nobody needs any more, write checkpoints. No row changes.

spark-submit --properties-file conf/spark-local.conf jobs/maintain_tables.py --warehouse DIR

It works by itself and starts no Spark session: python jobs/maintain_tables.py does as well. Only of the days that are given are small files
merged (default: all).
"""

import sys

from flowlog_udfs.cli import run_maintenance

if __name__ == "__main__":
    sys.exit(run_maintenance(__doc__))
