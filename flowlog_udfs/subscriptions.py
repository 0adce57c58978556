"""The flow logs of a day: whose they are, what fields they write, and which of two that overlap is believed.

In: rows of table `objects`. Out: one `Subscription` per flow log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowlog_udfs.inventory import Inventory


@dataclass(frozen=True, slots=True)
class Subscription:
    """A flow log. Of two that overlap the one with the lower `rank` is believed; `traffic` is ACCEPT, REJECT, ALL, or None: not known."""

    flow_log_id: str
    account_id: str
    region: str
    fields: frozenset[str]
    rank: int
    traffic: str | None = None

    @property
    def names_interfaces(self) -> bool:
        """Whether its rows say which interface they were captured at; where one does not, it is a regional NAT gateway's."""
        return "interface-id" in self.fields


def subscriptions(objects: Iterable[Mapping[str, Any]], inventory: Inventory | None = None) -> dict[str, Subscription]:
    """The flow logs that rows of `objects` (`flow_log_id, account_id, region, log_format`) come from, by id.

    They rank by their number of fields, then by id. A format cannot change, so of several (a reused id) the one with most fields counts.
    """
    traffic = {log.flow_log_id: log.traffic for log in inventory.flow_logs} if inventory else {}
    owners: dict[str, tuple[str, str]] = {}
    fields: dict[str, frozenset[str]] = {}
    for row in objects:
        name = row["flow_log_id"]
        owners[name] = min(owners.get(name, (row["account_id"], row["region"])), (row["account_id"], row["region"]))
        # `log_format` is the format as `${field} …`.
        found = frozenset(word.strip("${}") for word in (row["log_format"] or "").split())
        fields[name] = max(fields.get(name, frozenset()), found, key=len)
    ranked = sorted(fields, key=lambda name: (-len(fields[name]), name))
    return {name: Subscription(name, *owners[name], fields[name], rank, traffic.get(name)) for rank, name in enumerate(ranked)}
