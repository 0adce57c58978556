"""policy.toml to a `Policy`: every key and value checked, each refusal naming the file, the key, the value and the remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from flowlog_udfs.addresses import cidr_range
from flowlog_udfs.documents import read_toml
from flowlog_udfs.errors import UsageError
from flowlog_udfs.outcomes import ACTIONS, STATES
from flowlog_udfs.policy.model import (
    ANY,
    HISTORY_DAYS,
    INTERNET,
    OWN,
    REACHED,
    SEVERITIES,
    Allow,
    Approval,
    Connections,
    Expected,
    FirstSeen,
    Gaps,
    Policy,
    Ports,
    Rule,
    Segment,
    Spread,
    Volume,
    Waiver,
    What,
)
from flowlog_udfs.protocols import TCP, UDP

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

Values = Mapping[str, Any]
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": 132}
KINDS: Mapping[str, type[What]] = {
    "connections": Connections,
    "spread": Spread,
    "volume": Volume,
    "first-seen": FirstSeen,
    "gaps": Gaps,
}
CHOICES = {
    "severity": SEVERITIES,
    "action": ACTIONS[:2],
    "reject_reason": ("BPA", "EC"),
    "segments": ("between", "sensitive"),
    "subject": ("initiator", "responder", "pair"),
    "over": ("ports", "hosts"),
    "of": ("skipped", "silence", "missing", "hole"),
}
MOST = 2**63 - 1
"""What a rule's numbers are compared with is a BIGINT."""
_PORTS = re.compile(r"([a-z]+)(?:/([0-9]{1,5})(?:-([0-9]{1,5}))?)?")
_ENDS = {"from": "source", "to": "target"}
_OF_RULES = {"kind", "title", "severity", "controls", "enabled", "blind_spots"}
_APPROVAL = ("owner", "approver", "business_need", "ticket")


def built_in_file() -> Path | Traversable:
    """The policy that comes with flowlog: `conf/policy.toml` of a checkout, `policy.toml` inside an installed package or zip."""
    packaged = files("flowlog_udfs") / "policy.toml"
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "conf" / "policy.toml"


def load_policy(path: Path | None) -> Policy:
    """The built-in policy, with what a file says in place of its own; raises `UsageError` naming file, key, value and remedy."""
    default = read_toml(built_in_file())
    given = read_toml(path) if path else {}
    where = str(path or built_in_file())
    try:
        return _policy(given, default, where)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _policy(given: Values, default: Values, where: str) -> Policy:
    _refuse_unknown("", given, {"policy", "expected", "segment", "allow", "exception", "rules"})
    head = {
        **_table("policy", default["policy"]),
        **({"name": Path(where).name} if given else {}),
        **_table("policy", given.get("policy", {})),
    }
    _refuse_unknown("policy", head, {"name", "assessed_share", "least_confidence"})
    for name in ("assessed_share", "least_confidence"):
        if isinstance(head[name], bool) or not isinstance(head[name], int | float) or not 0 <= head[name] <= 1:
            raise UsageError(f"[policy] {name} = {head[name]!r}: must be a share between 0 and 1")
    segments = tuple(_segment(f"[[segment]] {n}", one) for n, one in enumerate(_list("segment", given), 1))
    names = [one.name for one in segments]
    for name in names:
        if names.count(name) > 1 or name in (INTERNET, OWN, ANY):
            raise UsageError(f"[[segment]] name = {name!r}: is taken; give each segment a name of its own")
    rules = _rules(_table("rules", given.get("rules", {})), default["rules"])
    ends = (*names, INTERNET, OWN, ANY)
    allowed = tuple(_allow(f"[[allow]] {n}", one, ends) for n, one in enumerate(_list("allow", given), 1))
    known = {rule.id: rule for rule in rules}
    waivers = tuple(_waiver(f"[[exception]] {n}", one, known) for n, one in enumerate(_list("exception", given), 1))
    wanted = _table("expected", given.get("expected", {}))
    _refuse_unknown("expected", wanted, {f.name for f in fields(Expected)})
    expected = Expected(**{name: _texts(f"[expected] {name}", value) for name, value in wanted.items()})
    name = _text("[policy] name", head["name"])
    return Policy(name, rules, segments, allowed, waivers, expected, float(head["assessed_share"]), float(head["least_confidence"]))


def _rules(given: Values, default: Values) -> tuple[Rule, ...]:
    rules = []
    for name in [*default, *(name for name in given if name not in default)]:
        base, own = default.get(name, {}), _table(f"rules.{name}", given.get(name, {}))
        if base and own.get("kind", base["kind"]) != base["kind"]:
            raise UsageError(
                f"[rules.{name}] kind = {own['kind']!r}: the built-in rule is of kind {base['kind']!r}; give another one another name"
            )
        rules.append(_rule(name, {**base, **own}))
    return tuple(rules)


def _rule(name: str, values: Values) -> Rule:
    where = f"[rules.{name}]"
    kind = _choice(f"{where} kind", values.get("kind"), tuple(KINDS))
    of_kind = {f.name: f for f in fields(KINDS[kind])}
    named = {_ENDS.get(key, key): value for key, value in values.items()} if kind == "connections" else dict(values)
    allowed = (set(of_kind) - set(_ENDS.values()) | (set(_ENDS) if kind == "connections" else set())) | _OF_RULES
    _refuse_unknown(f"rules.{name}", values, allowed)
    missing = [key for key in ("title", "severity") if key not in values]
    missing += [key for key, field in of_kind.items() if key not in named and field.default is MISSING and field.default_factory is MISSING]
    if missing:
        raise UsageError(f"{where} {missing[0]}: is missing; give it")
    written = {key: name for name, key in _ENDS.items()}
    parameters = {key: _parameter(f"{where} {written.get(key, key)}", key, named[key]) for key in of_kind if key in named}
    made: Callable[..., What] = KINDS[kind]
    what = made(**parameters)
    if isinstance(what, Volume | FirstSeen):
        _refuse_unknowable(where, what)
    return Rule(
        name,
        _text(f"{where} title", values["title"]),
        _choice(f"{where} severity", values["severity"], SEVERITIES),
        _texts(f"{where} controls", values.get("controls", [])),
        what,
        _flag(f"{where} enabled", values.get("enabled", True)),
        _texts(f"{where} blind_spots", values.get("blind_spots", [])),
    )


def _refuse_unknowable(where: str, what: Volume | FirstSeen) -> None:
    """More days before than are held, and more of these than are looked at, are never known: the rule would find nothing, ever."""
    if what.days > HISTORY_DAYS:
        raise UsageError(f"{where} days = {what.days}: only {HISTORY_DAYS} days before are held; write {HISTORY_DAYS} or less")
    if what.least_days > what.days:
        raise UsageError(f"{where} least_days = {what.least_days}: is more than days = {what.days}; write {what.days} or less")


def _parameter(where: str, key: str, value: Any) -> Any:
    if key in ("source", "target"):
        return _choice(where, value, (INTERNET, OWN, ANY))
    if key in CHOICES:
        return _choice(where, value, CHOICES[key])
    checks: dict[str, Callable[[str, Any], Any]] = {
        "ports": _ports,
        "approved": _cidrs,
        "states": _states,
        "unencrypted": _flag,
        "factor": _factor,
    }
    check = checks.get(key) or _whole
    return check(where, value)


def _states(where: str, value: Any) -> tuple[str, ...]:
    return tuple(_choice(where, one, (*STATES, REACHED)) for one in _texts(where, value))


def _segment(where: str, values: Values) -> Segment:
    _refuse_unknown(where, values, {f.name for f in fields(Segment)})
    tags = _table(f"{where} tags", values.get("tags", {}))
    segment = Segment(
        _text(f"{where} name", values.get("name")),
        _cidrs(f"{where} cidrs", values.get("cidrs", [])),
        _texts(f"{where} subnets", values.get("subnets", [])),
        _texts(f"{where} vpcs", values.get("vpcs", [])),
        tuple((key, _text(f"{where} tags.{key}", tags[key])) for key in sorted(tags)),
        _flag(f"{where} sensitive", values.get("sensitive", False)),
    )
    if not (segment.cidrs or segment.subnets or segment.vpcs or segment.tags):
        raise UsageError(f"{where} {segment.name!r}: holds nothing; give cidrs, subnets, vpcs or tags")
    return segment


def _allow(where: str, values: Values, ends: tuple[str, ...]) -> Allow:
    _refuse_unknown(where, values, {"from", "to", "ports", *_APPROVAL, "starts", "expires"})
    source, target = (_choice(f"{where} {key}", values.get(key), ends) for key in ("from", "to"))
    return Allow(source, target, _ports(f"{where} ports", values.get("ports", [])), _approval(where, values))


def _waiver(where: str, values: Values, rules: Mapping[str, Rule]) -> Waiver:
    _refuse_unknown(where, values, {"rule", "vpc", "initiator", "responder", "ports", *_APPROVAL, "starts", "expires"})
    rule = _choice(f"{where} rule", values.get("rule"), tuple(rules))
    kind = next(name for name, one in KINDS.items() if isinstance(rules[rule].what, one))
    for key in ("initiator", "responder", "ports"):
        if key in values and kind in ("gaps", "volume"):
            raise UsageError(
                f"{where} {key} = {values[key]!r}: rule {rule} is of kind {kind} and looks at no connection; leave it out, or give vpc"
            )
    ends = [next(iter(_cidrs(f"{where} {key}", [values[key]])), None) if key in values else None for key in ("initiator", "responder")]
    vpc = _text(f"{where} vpc", values["vpc"]) if "vpc" in values else None
    return Waiver(rule, _approval(where, values), vpc, ends[0], ends[1], _ports(f"{where} ports", values.get("ports", [])))


def _approval(where: str, values: Values) -> Approval:
    owner, approver, need, ticket = (_text(f"{where} {key}", values.get(key)) for key in _APPROVAL)
    expires = _day(f"{where} expires", values.get("expires"))
    starts = _day(f"{where} starts", values["starts"]) if "starts" in values else None
    if starts and starts > expires:
        raise UsageError(f"{where} starts = {starts}: is after expires = {expires}; write {expires} or a day before it")
    return Approval(owner, approver, need, ticket, expires, starts)


def _ports(where: str, value: Any) -> Ports:
    """`tcp/22`, `udp/137-138`, or a protocol by itself for all its ports."""
    found = []
    for text in _texts(where, value):
        named = _PORTS.fullmatch(text)
        low, high = (int(named[2] or 0), int(named[3] or named[2] or 65_535)) if named else (0, 0)
        if not named or named[1] not in PROTOCOLS or not low <= high <= 65_535:
            raise UsageError(f"{where} = {text!r}: is no port; write tcp/22, udp/137-138 or tcp")
        found.append((PROTOCOLS[named[1]], low, high))
    return Ports(tuple(found))


def _cidrs(where: str, value: Any) -> tuple[str, ...]:
    for cidr in _texts(where, value):
        try:
            cidr_range(cidr)
        except UsageError as error:
            raise UsageError(f"{where} = {cidr!r}: {error}") from error
    return _texts(where, value)


def _table(where: str, value: Any) -> Values:
    if not isinstance(value, dict):
        raise UsageError(f"[{where}] = {value!r}: must be a section")
    return value


def _list(name: str, tables: Values) -> list[Values]:
    value = tables.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UsageError(f"{name} = {value!r}: must be sections; write [[{name}]]")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} = {value!r}: must be text; give it" if value is not None else f"{where}: is missing; give it")
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{where} = {value!r}: must be a list of texts")
    return tuple(value)


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} = {value!r}: must be true or false")
    return value


def _factor(where: str, value: Any) -> float:
    # Nothing is more than infinity or than what is no number: the rule would find nothing, ever.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST:
        raise UsageError(f"{where} = {value!r}: must be a number from 1 on")
    return float(value)


def _whole(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise UsageError(f"{where} = {value!r}: must be a whole number from 1 on, at most {MOST}")
    return value


def _day(where: str, value: Any) -> date:
    if type(value) is not date:
        raise UsageError(f"{where} = {value!r}: must be a day; write 2027-01-31 without quotes")
    return value


def _choice(where: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UsageError(f"{where} = {value!r}: must be one of {', '.join(choices)}")
    return str(value)


def _refuse_unknown(where: str, found: Values, known: set[str]) -> None:
    place = f"[{where}] " if where and not where.startswith("[") else f"{where} ".lstrip()
    for name in sorted(set(found) - known):
        raise UsageError(f"{place}unknown key {name!r}; known are {', '.join(sorted(known))}")
