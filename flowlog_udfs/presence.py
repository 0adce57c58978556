"""Which interfaces a day's flow logs watched, for how long, and what they could show: table `interfaces`.

In: the survey of all batches of records. Out: one row for each interface and flow log. An interface whose rows stop for more than two
aggregation intervals and come back (a watched interface without traffic has rows of status NODATA) has a possible gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import pairwise

import pyarrow as pa

from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.interfaces import Interface, Survey
from flowlog_udfs.subscriptions import Subscription
from flowlog_udfs.tables import Table

_UTC = pa.timestamp("us", "UTC")
_STRETCH = pa.struct([("start", _UTC), ("end", _UTC)])
INTERFACES = pa.schema(
    [
        *((name, pa.string()) for name in ("interface_id", "account_id", "region", "vpc_id", "subnet_id", "az_id", "instance_id", "kind")),
        ("flow_log_id", pa.string()),
        ("records", pa.int64()),
        ("shows_accept", pa.bool_()),  # the flow log captures accepted traffic: by the inventory, else because it showed some
        ("shows_reject", pa.bool_()),
        ("first_start", _UTC),
        ("last_end", _UTC),
        ("gaps", pa.list_(_STRETCH)),
    ]
)
INTERFACES_TABLE = Table("interfaces", INTERFACES, ("vpc_id", "subnet_id", "interface_id", "flow_log_id"))


def presence(surveyed: pa.Table, survey: Survey, logs: Mapping[str, Subscription]) -> pa.Table:
    """Rows of `INTERFACES` in order of interface (or regional NAT gateway) and flow log; `surveyed` are rows of `survey.SURVEY`."""
    counted = surveyed.select(["observer", "flow_log_id", "rows"]).group_by(["observer", "flow_log_id"]).aggregate([("rows", "sum")])
    rows = [_row(survey.interfaces[row["observer"]], row["flow_log_id"], row["rows_sum"], survey, logs) for row in counted.to_pylist()]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (str(row["interface_id"]), str(row["flow_log_id"]))), INTERFACES)


def _row(one: Interface, flow_log: str, records: int, survey: Survey, logs: Mapping[str, Subscription]) -> dict[str, object]:
    traffic, traits = logs[flow_log].traffic, survey.flow_logs[flow_log]
    stretches = one.flow_logs[flow_log]
    return {
        "interface_id": one.interface_id or one.observer,
        **one.place,
        "instance_id": one.instance_id,
        "kind": one.kind,
        "flow_log_id": flow_log,
        "records": records,
        "shows_accept": traits.accepts if traffic is None else traffic != REJECT,
        "shows_reject": traits.rejects if traffic is None else traffic != ACCEPT,
        "first_start": _time(stretches[0][0]) if stretches else None,
        "last_end": _time(stretches[-1][1]) if stretches else None,
        "gaps": [{"start": _time(before[1]), "end": _time(after[0])} for before, after in pairwise(stretches)],
    }


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
