"""flowlog: batch analytics over Amazon VPC Flow Logs on Apache Spark.

The modules follow the way of the data, and import in that direction only:

    fields -> storage -> keys -> key_lists -> formats -> values -> lines -> records -> objects -> parts -> tables -> ingest

Importing the package starts no Spark session and reads no network.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["read_flow_logs"]


def __getattr__(name: str) -> Any:
    """What notebooks use, imported when it is first asked for."""
    if name == "read_flow_logs":
        from flowlog_udfs.selection import read_flow_logs

        return read_flow_logs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
