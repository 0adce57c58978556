"""policy.toml to a `Policy`: every key and value checked, each refusal naming the file, the key, the value and the remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from flowlog_udfs.documents import read_toml
from flowlog_udfs.errors import UsageError
from flowlog_udfs.outcomes import ACTIONS, STATES
from flowlog_udfs.policy import checks
from flowlog_udfs.policy.checks import Values
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
    Rule,
    Segment,
    Spread,
    Volume,
    Waiver,
    What,
)

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

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
    checks.refuse_unknown("", given, {"policy", "expected", "segment", "allow", "exception", "rules"})
    head = {
        **checks.section("policy", default["policy"]),
        **({"name": Path(where).name} if given else {}),
        **checks.section("policy", given.get("policy", {})),
    }
    checks.refuse_unknown("policy", head, {"name", "assessed_share", "least_confidence"})
    assessed, confidence = (checks.share(f"[policy] {name}", head[name]) for name in ("assessed_share", "least_confidence"))
    segments = tuple(_segment(f"[[segment]] {n}", one) for n, one in enumerate(checks.sections("segment", given), 1))
    names = [one.name for one in segments]
    for name in names:
        if names.count(name) > 1 or name in (INTERNET, OWN, ANY):
            raise UsageError(f"[[segment]] name = {name!r}: is taken; give each segment a name of its own")
    rules = _rules(checks.section("rules", given.get("rules", {})), default["rules"])
    ends = (*names, INTERNET, OWN, ANY)
    allowed = tuple(_allow(f"[[allow]] {n}", one, ends) for n, one in enumerate(checks.sections("allow", given), 1))
    known = {rule.id: rule for rule in rules}
    waivers = tuple(_waiver(f"[[exception]] {n}", one, known) for n, one in enumerate(checks.sections("exception", given), 1))
    wanted = checks.section("expected", given.get("expected", {}))
    checks.refuse_unknown("expected", wanted, {f.name for f in fields(Expected)})
    expected = Expected(**{name: checks.texts(f"[expected] {name}", value) for name, value in wanted.items()})
    name = checks.text("[policy] name", head["name"])
    return Policy(name, rules, segments, allowed, waivers, expected, assessed, confidence)


def _rules(given: Values, default: Values) -> tuple[Rule, ...]:
    rules = []
    for name in [*default, *(name for name in given if name not in default)]:
        base, own = default.get(name, {}), checks.section(f"rules.{name}", given.get(name, {}))
        if base and own.get("kind", base["kind"]) != base["kind"]:
            raise UsageError(
                f"[rules.{name}] kind = {own['kind']!r}: the built-in rule is of kind {base['kind']!r}; give another one another name"
            )
        rules.append(_rule(name, {**base, **own}))
    return tuple(rules)


def _rule(name: str, values: Values) -> Rule:
    where = f"[rules.{name}]"
    kind = checks.choice(f"{where} kind", values.get("kind"), tuple(KINDS))
    of_kind = {f.name: f for f in fields(KINDS[kind])}
    named = {_ENDS.get(key, key): value for key, value in values.items()} if kind == "connections" else dict(values)
    allowed = (set(of_kind) - set(_ENDS.values()) | (set(_ENDS) if kind == "connections" else set())) | _OF_RULES
    checks.refuse_unknown(f"rules.{name}", values, allowed)
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
        checks.text(f"{where} title", values["title"]),
        checks.choice(f"{where} severity", values["severity"], SEVERITIES),
        checks.texts(f"{where} controls", values.get("controls", [])),
        what,
        checks.flag(f"{where} enabled", values.get("enabled", True)),
        checks.texts(f"{where} blind_spots", values.get("blind_spots", [])),
    )


def _refuse_unknowable(where: str, what: Volume | FirstSeen) -> None:
    """More days before than are held, and more of these than are looked at, are never known: the rule would find nothing, ever."""
    if what.days > HISTORY_DAYS:
        raise UsageError(f"{where} days = {what.days}: only {HISTORY_DAYS} days before are held; write {HISTORY_DAYS} or less")
    if what.least_days > what.days:
        raise UsageError(f"{where} least_days = {what.least_days}: is more than days = {what.days}; write {what.days} or less")


def _parameter(where: str, key: str, value: Any) -> Any:
    if key in ("source", "target"):
        return checks.choice(where, value, (INTERNET, OWN, ANY))
    if key in CHOICES:
        return checks.choice(where, value, CHOICES[key])
    special: dict[str, Callable[[str, Any], Any]] = {
        "ports": checks.ports,
        "approved": checks.cidrs,
        "states": _states,
        "unencrypted": checks.flag,
        "factor": checks.factor,
    }
    check = special.get(key) or checks.whole
    return check(where, value)


def _states(where: str, value: Any) -> tuple[str, ...]:
    return tuple(checks.choice(where, one, (*STATES, REACHED)) for one in checks.texts(where, value))


def _segment(where: str, values: Values) -> Segment:
    checks.refuse_unknown(where, values, {f.name for f in fields(Segment)})
    tags = checks.section(f"{where} tags", values.get("tags", {}))
    segment = Segment(
        checks.text(f"{where} name", values.get("name")),
        checks.cidrs(f"{where} cidrs", values.get("cidrs", [])),
        checks.texts(f"{where} subnets", values.get("subnets", [])),
        checks.texts(f"{where} vpcs", values.get("vpcs", [])),
        tuple((key, checks.text(f"{where} tags.{key}", tags[key])) for key in sorted(tags)),
        checks.flag(f"{where} sensitive", values.get("sensitive", False)),
    )
    if not (segment.cidrs or segment.subnets or segment.vpcs or segment.tags):
        raise UsageError(f"{where} {segment.name!r}: holds nothing; give cidrs, subnets, vpcs or tags")
    return segment


def _allow(where: str, values: Values, ends: tuple[str, ...]) -> Allow:
    checks.refuse_unknown(where, values, {"from", "to", "ports", *_APPROVAL, "starts", "expires"})
    source, target = (checks.choice(f"{where} {key}", values.get(key), ends) for key in ("from", "to"))
    return Allow(source, target, checks.ports(f"{where} ports", values.get("ports", [])), _approval(where, values))


def _waiver(where: str, values: Values, rules: Mapping[str, Rule]) -> Waiver:
    checks.refuse_unknown(where, values, {"rule", "vpc", "initiator", "responder", "ports", *_APPROVAL, "starts", "expires"})
    rule = checks.choice(f"{where} rule", values.get("rule"), tuple(rules))
    kind = next(name for name, one in KINDS.items() if isinstance(rules[rule].what, one))
    for key in ("initiator", "responder", "ports"):
        if key in values and kind in ("gaps", "volume"):
            raise UsageError(
                f"{where} {key} = {values[key]!r}: rule {rule} is of kind {kind} and looks at no connection; leave it out, or give vpc"
            )
    ends = [
        next(iter(checks.cidrs(f"{where} {key}", [values[key]])), None) if key in values else None for key in ("initiator", "responder")
    ]
    vpc = checks.text(f"{where} vpc", values["vpc"]) if "vpc" in values else None
    return Waiver(rule, _approval(where, values), vpc, ends[0], ends[1], checks.ports(f"{where} ports", values.get("ports", [])))


def _approval(where: str, values: Values) -> Approval:
    owner, approver, need, ticket = (checks.text(f"{where} {key}", values.get(key)) for key in _APPROVAL)
    expires = checks.day(f"{where} expires", values.get("expires"))
    starts = checks.day(f"{where} starts", values["starts"]) if "starts" in values else None
    if starts and starts > expires:
        raise UsageError(f"{where} starts = {starts}: is after expires = {expires}; write {expires} or a day before it")
    return Approval(owner, approver, need, ticket, expires, starts)
