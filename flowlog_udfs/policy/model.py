"""A policy as frozen rows: segments, the allow-list between them, exceptions, what is expected, and the rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

SEVERITIES = ("critical", "high", "medium", "low", "info")
REACHED = "reached"
"""The state of connections of which the responder's side got a packet."""
INTERNET, OWN, ANY = "internet", "own", "any"
"""What stands for an end beside the name of a segment; `internet` includes what AWS rents out to anyone."""
HISTORY_DAYS = 14
"""The days before a day that it is compared with, at most."""


@dataclass(frozen=True)
class Ports:
    """Ports of protocols, as (IANA protocol number, first port, last port); empty is all."""

    ranges: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Segment:
    """A part of the network by any of ranges, subnets, VPCs, and tags of subnets and VPCs; of several that hold an end the first counts."""

    name: str
    cidrs: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    vpcs: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    sensitive: bool = False


@dataclass(frozen=True)
class Approval:
    """Who answers for a departure, why, and for how long: both days included."""

    owner: str
    approver: str
    business_need: str
    ticket: str
    expires: date
    starts: date | None = None

    def holds(self, day: date) -> bool:
        """Whether it is in force on a day."""
        return not self.is_ahead(day) and day <= self.expires

    def is_ahead(self, day: date) -> bool:
        """Whether it comes into force only after a day."""
        return self.starts is not None and day < self.starts


@dataclass(frozen=True)
class Allow:
    """A row of the allow-list: connections that segment rules let pass while its approval holds."""

    source: str
    target: str
    ports: Ports
    approval: Approval


@dataclass(frozen=True)
class Waiver:
    """An exception: findings of a rule in its scope stay listed, and count again when the approval has expired."""

    rule: str
    approval: Approval
    vpc: str | None = None
    initiator: str | None = None
    responder: str | None = None
    ports: Ports = field(default_factory=Ports)

    @property
    def scope(self) -> tuple[object, ...]:
        """What tells it apart from other exceptions of its rule and ticket."""
        return self.vpc, self.initiator, self.responder, self.ports.ranges


@dataclass(frozen=True)
class Expected:
    """What must be seen, besides the inventory's VPCs and interfaces."""

    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    vpcs: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Connections:
    """Connections from one scope to another, on certain ports, that came to certain states.

    `states` are those of table `connections`, and `reached`: the responder's side got a packet. `segments` is `between`, the ends are in
    different segments, or `sensitive`, and one of these is sensitive; the allow-list applies to both. `unencrypted` leaves out connections
    whose records say that the network encrypts. `subject` is whom a finding is about; fewer than `least` connections are none. `approved`
    are ranges of the end that is not the subject, of a pair the responder.
    """

    source: str = ANY
    target: str = ANY
    ports: Ports = field(default_factory=Ports)
    states: tuple[str, ...] = ()
    action: str | None = None
    reject_reason: str | None = None
    segments: str | None = None
    unencrypted: bool = False
    approved: tuple[str, ...] = ()
    subject: str = "responder"
    least: int = 1


@dataclass(frozen=True)
class Spread:
    """One initiator whose connections do not come about, at many `ports` of one host or at one port of many `hosts`."""

    over: str
    least: int


@dataclass(frozen=True)
class Volume:
    """A subnet sends more to the internet than `factor` times the median of the `days` before, and `least_bytes` more than it.

    Without `least_days` of these there is nothing to compare with.
    """

    factor: float
    least_bytes: int
    days: int = 14
    least_days: int = 3


@dataclass(frozen=True)
class FirstSeen:
    """An external peer of a sensitive segment that was not there in the `days` before, of which `least_days` must be known."""

    days: int = 14
    least_days: int = 3


@dataclass(frozen=True)
class Gaps:
    """What flow logs left out: `skipped` records, `silence` where there was some, `missing` expected things, a `hole` in the ledger.

    An interface is silent if it has no row of any status for `least_minutes` between two rows.
    """

    of: str
    least_minutes: int = 60


What = Connections | Spread | Volume | FirstSeen | Gaps


@dataclass(frozen=True)
class Rule:
    """One rule: what it looks for, how grave that is, which controls ask for it, and what no flow log can tell about it."""

    id: str
    title: str
    severity: str
    controls: tuple[str, ...]
    what: What
    enabled: bool = True
    blind_spots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A whole policy. A rule needs `assessed_share` of a VPC's records; initiators surer than `least_confidence` only are accused."""

    name: str
    rules: tuple[Rule, ...]
    segments: tuple[Segment, ...] = ()
    allowed: tuple[Allow, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    expected: Expected = field(default_factory=Expected)
    assessed_share: float = 0.95
    least_confidence: float = 0.5

    def digest(self) -> str:
        """SHA-256 of all that the policy says; comments and layout of its file do not change it."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def by_id(self) -> Mapping[str, Rule]:
        """The rules by id."""
        return {rule.id: rule for rule in self.rules}

    def waivers_of(self, rule: str, day: date) -> list[tuple[int, Waiver]]:
        """A rule's exceptions that have begun, with their places: those in force on a day come before those that have expired."""
        begun = [(place, one) for place, one in enumerate(self.waivers) if one.rule == rule and not one.approval.is_ahead(day)]
        return sorted(begun, key=lambda numbered: not numbered[1].approval.holds(day))

    def waivers_ahead(self, rule: str, day: date) -> list[tuple[int, Waiver]]:
        """A rule's exceptions that come into force only after a day, with their places: they cover nothing yet."""
        return [(place, one) for place, one in enumerate(self.waivers) if one.rule == rule and one.approval.is_ahead(day)]

    def in_force(self, place: int, day: date) -> bool:
        """Whether the exception at a place, -1 for none, is in force on a day."""
        return place >= 0 and self.waivers[place].approval.holds(day)

    @property
    def enabled(self) -> tuple[Rule, ...]:
        """The rules that are switched on."""
        return tuple(rule for rule in self.rules if rule.enabled)
