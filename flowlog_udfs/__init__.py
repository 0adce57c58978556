"""flowlog: batch analytics over Amazon VPC Flow Logs on Apache Spark.

The modules follow the way of the data, and import in that direction only:

    keys -> formats -> lines -> records -> objects -> ingest -> tables

Importing the package starts no Spark session and reads no network.
"""

__version__ = "0.1.0"
