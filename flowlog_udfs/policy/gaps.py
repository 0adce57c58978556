"""What the flow logs themselves left out: skipped records, silence, expected things that were not seen, days without a run.

In: tables `coverage` and `interfaces` of the day, the policy's expectations and the inventory, the days of the ledger. Out: rows for
`findings`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from flowlog_udfs.inventory import Inventory
from flowlog_udfs.policy.findings import Found, found
from flowlog_udfs.policy.matching import Judge
from flowlog_udfs.policy.model import Expected, Gaps

Rows = Sequence[Mapping[str, Any]]
LEDGER_DAYS = 90
KINDS = ("account", "region", "vpc", "interface")


@dataclass(frozen=True)
class Presence:
    """What a day's run saw: rows of `coverage` and `interfaces`, and what should have been seen, with who says so."""

    coverage: Rows
    interfaces: Rows
    expected: Mapping[tuple[str, str], str] = field(default_factory=dict)
    inventory: Inventory | None = None

    def vpcs_at(self, kind: str, name: str) -> list[str]:
        """The VPCs that are known to be, to hold or to lie in something of `KINDS`."""
        if kind == "vpc":
            return [name]
        if kind == "interface":
            return sorted(
                {one.vpc_id for one in (self.inventory.interfaces if self.inventory else ()) if one.interface_id == name and one.vpc_id}
            )
        column = "account_id" if kind == "account" else "region"
        listed = {one.vpc_id for one in (self.inventory.vpcs if self.inventory else ()) if getattr(one, column) == name}
        return sorted(listed | {row["vpc_id"] for row in self.interfaces if row["vpc_id"] and row[column] == name})

    @property
    def only(self) -> dict[str, list[str]]:
        """The accounts and the Regions that the run was told to read; empty lists: all there is."""
        told: Mapping[str, Any] = self.coverage[0] if self.coverage else {}
        return {name: list(told.get(f"only_{name}") or ()) for name in ("accounts", "regions")}

    @property
    def vpcs_of(self) -> Mapping[str, list[str]]:
        """The VPCs that each flow log watched."""
        vpcs: dict[str, set[str]] = defaultdict(set)
        for row in self.interfaces:
            if row["vpc_id"]:
                vpcs[row["flow_log_id"]].add(row["vpc_id"])
        return {name: sorted(those) for name, those in vpcs.items()}

    @property
    def seen(self) -> set[tuple[str, str]]:
        """Everything of `KINDS` that was seen."""
        those = {(kind, row[f"{kind}_id" if kind != "region" else kind]) for row in self.interfaces for kind in KINDS}
        those |= {(kind, row[name]) for row in self.coverage for kind, name in (("account", "account_id"), ("region", "region"))}
        return {(kind, name) for kind, name in those if name}

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Expected and not seen; of a VPC that is missing as a whole not its interfaces too."""
        return sorted(set(self.expected) - self.seen)


def expectations(expected: Expected, inventory: Inventory | None, seen_vpcs: Iterable[str]) -> dict[tuple[str, str], str]:
    """What a day must show, and whether the policy or the inventory says so; interfaces of VPCs that are not seen go without saying."""
    vpcs = set(seen_vpcs)
    listed = {("vpc", one.vpc_id): "inventory" for one in (inventory.vpcs if inventory else ())}
    for one in inventory.interfaces if inventory else ():
        if one.vpc_id in vpcs:
            listed["interface", one.interface_id] = "inventory"
    stated = {
        (kind, name): "policy"
        for kind, names in zip(KINDS, (expected.accounts, expected.regions, expected.vpcs, expected.interfaces), strict=True)
        for name in names
    }
    return listed | stated


def gaps(judge: Judge, presence: Presence, run_days: Iterable[date]) -> list[Found]:
    """Rows for `findings` of all rules of kind `Gaps`; `run_days` are the days of the ledger."""
    rows: list[Found] = []
    for number, rule in judge.numbered(Gaps):
        assert isinstance(rule.what, Gaps)
        if rule.what.of == "skipped":
            rows += _skipped(number, presence)
        elif rule.what.of == "silence":
            rows += [*_empty_hours(number, presence), *_silent_interfaces(number, rule.what, presence), *_failed_objects(number, presence)]
        elif rule.what.of == "missing":
            rows += _missing(number, presence)
        else:
            rows += _holes(number, judge.day, set(run_days))
    return rows


def _of_flow_logs(presence: Presence, column: str) -> Iterable[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Each flow log's first row of coverage, and its rows where `column` counts something."""
    logs: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in presence.coverage:
        if row["flow_log_id"]:
            logs[row["account_id"], row["region"], row["flow_log_id"]].append(row)
    return ((rows[0], [row for row in rows if row[column]]) for _, rows in sorted(logs.items()))


def _at(number: int, log: Mapping[str, Any], presence: Presence, summary: str) -> Found:
    vpcs = presence.vpcs_of.get(log["flow_log_id"], [])
    return found(number, log["flow_log_id"], summary, vpc_ids=vpcs, account_id=log["account_id"], region=log["region"])


def _skipped(number: int, presence: Presence) -> list[Found]:
    return [
        _at(
            number,
            log,
            presence,
            f"{sum(row['skipdata'] for row in hours):,} SKIPDATA rows in {_hours(hours)}; each stands for lost records",
        )
        for log, hours in _of_flow_logs(presence, "skipdata")
        if hours
    ]


def _empty_hours(number: int, presence: Presence) -> list[Found]:
    result = []
    for log, hours in _of_flow_logs(presence, "records"):
        empty = sorted(set(range(24)) - {row["hour"].hour for row in hours})
        if empty:
            names = ", ".join(f"{hour:02d}" for hour in empty)
            result.append(_at(number, log, presence, f"no record in {len(empty)} of 24 hours: {names}"))
    return result


def _failed_objects(number: int, presence: Presence) -> list[Found]:
    return [
        _at(number, log, presence, f"{sum(row['failed_objects'] for row in hours):,} objects could not be read whole, in {_hours(hours)}")
        | {"subject": f"{log['flow_log_id']} objects"}
        for log, hours in _of_flow_logs(presence, "failed_objects")
        if hours
    ]


def _silent_interfaces(number: int, what: Gaps, presence: Presence) -> list[Found]:
    """One row for each flow log with interfaces that were silent for `least_minutes` between rows."""
    silent: dict[str, list[tuple[timedelta, datetime, str, Mapping[str, Any]]]] = defaultdict(list)
    watched: dict[str, int] = defaultdict(int)
    for row in presence.interfaces:
        watched[row["flow_log_id"]] += 1
        longest = max(((gap["end"] - gap["start"], gap["start"]) for gap in row["gaps"]), default=None)
        if longest and longest[0] >= timedelta(minutes=what.least_minutes):
            silent[row["flow_log_id"]].append((*longest, row["interface_id"], row))
    result = []
    for name, ones in sorted(silent.items()):
        silence, since, interface, first = max(ones, key=lambda one: one[:3])
        minutes = silence.total_seconds() / 60
        told = (
            f"{len(ones):,} of {watched[name]:,} interfaces without a row of any status for {what.least_minutes} minutes or more; longest "
        )
        told += f"{interface} for {minutes:,.0f} minutes from {since:%H:%M} UTC"
        vpcs = [one[3]["vpc_id"] for one in ones if one[3]["vpc_id"]]
        result.append(found(number, f"{name} interfaces", told, vpc_ids=vpcs, account_id=first["account_id"], region=first["region"]))
    return result


def _missing(number: int, presence: Presence) -> list[Found]:
    """What is missing, with the VPCs it concerns: an interface's by the inventory, those of an account or Region where any are known."""
    return [
        found(
            number,
            f"{kind} {name}",
            f"expected by the {presence.expected[kind, name]}, not seen",
            vpc_ids=presence.vpcs_at(kind, name),
            account_id=name if kind == "account" else None,
            region=name if kind == "region" else None,
        )
        for kind, name in presence.missing
    ]


def has_earlier_run(day: date, run_days: Iterable[date]) -> bool:
    """Whether there was a run in the days that are looked through for holes."""
    return any(day - timedelta(days=LEDGER_DAYS) <= one < day for one in run_days)


def _holes(number: int, day: date, run_days: set[date]) -> list[Found]:
    """Days of the last 90 that no run has made, between the first one made and this day."""
    first = min((one for one in run_days if one >= day - timedelta(days=LEDGER_DAYS)), default=day)
    wanted = (first + timedelta(days=n) for n in range((day - first).days))
    return [found(number, str(one), "no run of this day in the ledger") for one in wanted if one not in run_days]


def _hours(rows: Sequence[Mapping[str, Any]]) -> str:
    hours: list[datetime] = [row["hour"] for row in rows]
    return f"{len(hours)} hour{'s' if len(hours) > 1 else ''} from {min(hours):%H}:00 UTC"
