"""Files that a person writes, right in every key, and all the ways in which one key of them can be wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import date, datetime
from typing import Any

from flowlog_udfs import ec2
from flowlog_udfs.config import AttributionConfig, CostConfig, IngestConfig
from flowlog_udfs.policy.loading import _ENDS, CHOICES, KINDS

Place = tuple[str | int, ...]

APPROVAL = {"owner": "o", "approver": "a", "business_need": "n", "ticket": "T-1", "starts": date(2026, 1, 1), "expires": date(2027, 1, 31)}
FITTING = {
    **{name: words[0] for name, words in CHOICES.items()},
    "source": "own",
    "target": "internet",
    "ports": ["tcp/22"],
    "states": ["established"],
    "approved": ["10.0.0.0/8"],
    "unencrypted": True,
    "factor": 2.5,
    "least": 3,
    "least_bytes": 5,
    "days": 7,
    "least_days": 3,
    "least_minutes": 60,
}
"""A value for each parameter of a rule, whatever its kind."""


def _default(kind: type, name: str) -> Any:
    found = next(one for one in fields(kind) if one.name == name)
    return found.default if found.default is not MISSING else found.default_factory()


def config() -> dict[str, Any]:
    """flowlog.toml with every key."""
    sections = {"ingest": IngestConfig, "attribution": AttributionConfig, "cost": CostConfig}
    told = {name: {one.name: _default(kind, one.name) for one in fields(kind)} for name, kind in sections.items()}
    return {**told, "networks": {"links": [["vpc-1", "vpc-2"]]}, "formats": {"fl-1": "${version} ${srcaddr}"}}


def policy() -> dict[str, Any]:
    """policy.toml with every key and a rule of each kind."""
    written = {name: key for key, name in _ENDS.items()}
    rules = {
        f"mine-{kind}": {
            "kind": kind,
            "title": "t",
            "severity": "low",
            "controls": ["c"],
            "enabled": True,
            "blind_spots": ["b"],
            **{written.get(one.name, one.name) if kind == "connections" else one.name: FITTING[one.name] for one in fields(made)},
        }
        for kind, made in KINDS.items()
    }
    everything = {"cidrs": ["10.0.0.0/24", "2001:db8::/32"], "subnets": ["subnet-1"], "vpcs": ["vpc-1"], "tags": {"zone": "card"}}
    scope = {"vpc": "vpc-1", "initiator": "10.0.0.0/8", "responder": "10.0.0.1/32", "ports": ["tcp/22", "udp/137-138", "sctp"]}
    return {
        "policy": {"name": "mine", "assessed_share": 0.9, "least_confidence": 0.5},
        "expected": {"accounts": ["1"], "regions": ["us-east-1"], "vpcs": ["vpc-1"], "interfaces": ["eni-1"]},
        "segment": [{"name": "card", "sensitive": True, **everything}, {"name": "office", "cidrs": ["10.0.1.0/24"]}],
        "allow": [{"from": "card", "to": "office", "ports": ["tcp/443"], **APPROVAL}],
        "exception": [{"rule": "mine-connections", **scope, **APPROVAL}],
        "rules": rules,
    }


def inventory() -> dict[str, Any]:
    """inventory.json with every key of EC2's answers that is read."""
    values = {ec2.TEXT: "some-text", ec2.NUMBER: 60, ec2.FLAG: True, ec2.ADDRESS: "10.0.0.1", ec2.CIDR: "10.0.0.0/24"}

    def made(shape: Any) -> Any:
        if isinstance(shape, list):
            return [made(shape[0])]
        return {name.removesuffix("*"): made(inner) for name, inner in shape.items()} if isinstance(shape, Mapping) else values[shape]

    return {"TakenAt": "2026-03-10T12:00:00Z", **{name: [made(shape)] for name, shape in ec2.SHAPES.items()}}


def services() -> dict[str, Any]:
    """services.toml."""
    return {
        "service": [{"port": 443, "protocol": "tcp", "name": "https", "meaning": "web"}, {"port": 53, "protocol": "udp", "name": "dns"}]
    }


def ip_ranges() -> dict[str, Any]:
    """ip-ranges.json."""
    one = {"region": "us-east-1", "service": "S3", "network_border_group": "us-east-1"}
    return {
        "syncToken": "1773100800",
        "createDate": "2026-03-10-00-00-00",
        "prefixes": [{"ip_prefix": "192.0.2.0/24", **one}],
        "ipv6_prefixes": [{"ipv6_prefix": "2001:db8::/32", **one}],
    }


def wrong_types(good: Mapping[str, Any], others: tuple[Any, ...]) -> Iterator[tuple[Place, Any, dict[str, Any]]]:
    """For each place of a document each value of another type: the place, the value, and the whole with it."""
    for path, value in _places(good):
        for other in others:
            alike = type(other) is type(value) or (type(value) is float and type(other) is int)
            if not alike:
                yield path, other, put(good, path, other)


def unknown_neighbours(good: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """A key that nobody knows beside the known ones, in each table."""
    for path, value in [((), good), *_places(good)]:
        if isinstance(value, dict):
            yield (*path, "unheard_of"), put(good, (*path, "unheard_of"), "x")


def without(good: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Each place left out."""
    for path, _ in _places(good):
        made = copy.deepcopy(dict(good))
        at: Any = made
        for name in path[:-1]:
            at = at[name]
        del at[path[-1]]
        yield path, made


def _places(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name), one
        yield from _places(one, (*path, name))


def put(good: Mapping[str, Any], path: Place, value: Any) -> dict[str, Any]:
    """A document with another value at a place."""
    made: Any = copy.deepcopy(dict(good))
    at = made
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return made


def toml(value: Any) -> str:
    """A document as TOML; below the top in one line."""
    if isinstance(value, dict):
        return "".join(f"{json.dumps(name)} = {_inline(one)}\n" for name, one in value.items())
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_inline(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date | datetime) else json.dumps(value) if isinstance(value, str) else repr(value)


def names_of(path: Place) -> list[str]:
    """The keys on the way to a place."""
    return [str(name) for name in path if isinstance(name, str)]
