"""Which interfaces a day's flow logs watched, for how long, and what they could show: table `interfaces`.

In: the survey of all batches of records. Out: one row for each interface and flow log. An interface whose rows stop for more than two
aggregation intervals and come back (a watched interface without traffic has rows of status NODATA) has a possible gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.interfaces import Interface, Stretches, Survey
from flowlog_udfs.inventory import NAT_GATEWAY, REGIONAL_NAT_GATEWAY
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
    found = [(survey.interfaces[row["observer"]], row["flow_log_id"], row["rows_sum"]) for row in counted.to_pylist()]
    found.sort(key=lambda one: (str(one[0].interface_id or one[0].observer), str(one[1])))
    rows = [_row(*one, survey, logs) for one in found]
    table = pa.Table.from_pylist(rows, pa.schema([field for field in INTERFACES if field.name != "gaps"]))
    return table.append_column(INTERFACES.field("gaps"), _gaps([one.flow_logs[flow_log] for one, flow_log, _ in found]))


def nat_gateways(interfaces: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The interfaces of NAT gateways, and the VPCs of regional ones, which have no interface, from rows of `INTERFACES`."""
    names = {NAT_GATEWAY: "interface_id", REGIONAL_NAT_GATEWAY: "vpc_id"}
    found = (row[names[row["kind"]]] for row in interfaces if row["kind"] in names)
    return frozenset(name for name in found if name)


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
        "first_start": _time(stretches[0, 0]) if stretches.size else None,
        "last_end": _time(stretches[1, -1]) if stretches.size else None,
    }


def _gaps(covered: Sequence[Stretches]) -> pa.ListArray:
    """What lies between the stretches of each list."""
    offsets = np.cumsum([0, *(max(one.shape[1] - 1, 0) for one in covered)], dtype=np.int32)
    begin, end = (np.concatenate([np.zeros(0, np.int64), *ones]) for ones in ([c[1, :-1] for c in covered], [c[0, 1:] for c in covered]))
    times = [pa.array(seconds * 1_000_000).cast(_UTC) for seconds in (begin, end)]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(times, fields=list(_STRETCH)))


def _time(seconds: np.int64) -> datetime:
    return datetime.fromtimestamp(int(seconds), timezone.utc)
