"""The sample's policy: segments, the allow-list between them and exceptions, such that ordinary traffic breaks no rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from flowlog_udfs.sample.topology import Topology
from flowlog_udfs.sample.violations import APPROVED_RESOLVER, CASES, VENDOR

APP_RANGES = ("10.0.1.0/24", "10.0.2.0/24", "10.0.5.0/24", "10.0.32.0/20")
DATABASE_PORTS = ("tcp/5432", "tcp/3306", "tcp/6379", "tcp/9042")
ALLOWED_FOR = 300
"""Days after the sample's last until which the allow-list holds."""

_SCOPES: Mapping[str, tuple[str, str, str, str]] = {
    "vendor-ssh": (f"{VENDOR}/32", "10.40.2.0/24", "tcp/22", "Remote support by the vendor of the shop."),
    "vault-export": ("10.0.3.0/24", "10.100.1.0/24", "tcp/8443", "Card statistics are exported at night."),
    "vault-metrics": ("10.0.5.0/24", "10.100.1.0/24", "tcp/9100", "Metrics until the new collector is there."),
}
"""What each exception covers, by the kind of traffic: initiators, responders, port; and why."""


def policy(topology: Topology, first: date, last: date, *, clean: bool) -> str:
    """The text of `policy.toml` for a sample of the days `first` to `last`; a `clean` one needs no exceptions.

    Segments are told by ranges, by a subnet's id and by a tag of a subnet; where the sample has no such place, its segment is left out.
    """
    databases = next(subnet.id for subnet in topology.subnets if subnet.name == "main-db")
    has_vault = any(subnet.tags for subnet in topology.subnets)
    lines = [
        "# The policy of the sample: its ordinary traffic breaks none of the rules.",
        *_section("policy", name="sample"),
        *_section(
            "expected", accounts=sorted({vpc.account for vpc in topology.vpcs}), regions=sorted({vpc.region for vpc in topology.vpcs})
        ),
        *_section("[segment]", name="app", cidrs=APP_RANGES),
        *_section("[segment]", name="databases", subnets=[databases]),
    ]
    allowed: list[tuple[str, str, tuple[str, ...], str, str]] = [
        ("app", "databases", DATABASE_PORTS, "Applications keep their records.", "NET-101")
    ]
    if has_vault:
        lines += _section("[segment]", name="cardholder", tags={"zone": "cardholder"}, sensitive=True)
        lines += _section("[segment]", name="operations", cidrs=["10.80.0.0/16"])
        allowed += [
            ("app", "cardholder", ("tcp/5432",), "The shop stores card numbers.", "NET-102"),
            ("cardholder", "internet", ("tcp/443",), "Payments are settled at the processors.", "NET-103"),
        ]
    for source, target, ports, need, ticket in allowed:
        names = {"from": source, "to": target, "ports": ports, "owner": "platform", "approver": "J. Doe", "business_need": need}
        lines += _section("[allow]", **names, ticket=ticket, expires=last + timedelta(days=ALLOWED_FOR))
    if has_vault and not clean:
        for number, (kind, (initiator, responder, port, need)) in enumerate(_SCOPES.items()):
            case = next(case for case in CASES[kind] if case.expires is not None)
            names = {"rule": case.rule, "initiator": initiator, "responder": responder, "ports": [port]}
            names |= {"owner": "operations", "approver": "J. Doe", "business_need": need, "ticket": f"NET-{201 + number}"}
            starts, expires = first - timedelta(days=30), last + timedelta(days=case.expires or 0)
            lines += _section("[exception]", **names, starts=starts, expires=expires)
        lines += _section("rules.dns-to-internet", approved=[f"{APPROVED_RESOLVER}/32"])
    return "\n".join(lines) + "\n"


def _section(header: str, /, **values: object) -> Iterator[str]:
    yield ""
    yield f"[{header}]"
    for key, value in values.items():
        yield f"{key} = {_toml(value)}"


def _toml(value: object) -> str:
    """A value as TOML writes it; texts and lists of plain texts are written as in JSON."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)
