"""What a value of policy.toml may be: each check returns it in its type, or refuses it by `UsageError` with place, value and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from flowlog_udfs.addresses import cidr_range
from flowlog_udfs.errors import UsageError
from flowlog_udfs.policy.model import Ports
from flowlog_udfs.protocols import TCP, UDP

Values = Mapping[str, Any]
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": 132}
MOST = 2**63 - 1
"""What a rule's numbers are compared with is a BIGINT."""
_PORTS = re.compile(r"([a-z]+)(?:/([0-9]{1,5})(?:-([0-9]{1,5}))?)?")


def ports(where: str, value: Any) -> Ports:
    """`tcp/22`, `udp/137-138`, or a protocol by itself for all its ports."""
    found = []
    for text in texts(where, value):
        named = _PORTS.fullmatch(text)
        low, high = (int(named[2] or 0), int(named[3] or named[2] or 65_535)) if named else (0, 0)
        if not named or named[1] not in PROTOCOLS or not low <= high <= 65_535:
            raise UsageError(f"{where} = {text!r}: is no port; write tcp/22, udp/137-138 or tcp")
        found.append((PROTOCOLS[named[1]], low, high))
    return Ports(tuple(found))


def cidrs(where: str, value: Any) -> tuple[str, ...]:
    """A list of IPv4 and IPv6 networks in CIDR notation, as written."""
    for cidr in texts(where, value):
        try:
            cidr_range(cidr)
        except UsageError as error:
            raise UsageError(f"{where} = {cidr!r}: {error}") from error
    return texts(where, value)


def section(where: str, value: Any) -> Values:
    """A table of TOML, `[where]`."""
    if not isinstance(value, dict):
        raise UsageError(f"[{where}] = {value!r}: must be a section")
    return value


def sections(name: str, tables: Values) -> list[Values]:
    """The tables `[[name]]`; none where there is no such key."""
    value = tables.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UsageError(f"{name} = {value!r}: must be sections; write [[{name}]]")
    return value


def text(where: str, value: Any) -> str:
    """Text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} = {value!r}: must be text; give it" if value is not None else f"{where}: is missing; give it")
    return value


def texts(where: str, value: Any) -> tuple[str, ...]:
    """A list of texts, none empty."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{where} = {value!r}: must be a list of texts")
    return tuple(value)


def flag(where: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where} = {value!r}: must be true or false")
    return value


def factor(where: str, value: Any) -> float:
    """A number from 1 on."""
    # Nothing is more than infinity or than what is no number: the rule would find nothing, ever.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST:
        raise UsageError(f"{where} = {value!r}: must be a number from 1 on")
    return float(value)


def share(where: str, value: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{where} = {value!r}: must be a share between 0 and 1")
    return float(value)


def whole(where: str, value: Any) -> int:
    """A whole number from 1 to `MOST`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise UsageError(f"{where} = {value!r}: must be a whole number from 1 on, at most {MOST}")
    return value


def day(where: str, value: Any) -> date:
    """A date of TOML, without time."""
    if type(value) is not date:
        raise UsageError(f"{where} = {value!r}: must be a day; write 2027-01-31 without quotes")
    return value


def choice(where: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of the words that are known."""
    if value not in choices:
        raise UsageError(f"{where} = {value!r}: must be one of {', '.join(choices)}")
    return str(value)


def refuse_unknown(where: str, found: Values, known: set[str]) -> None:
    """Refuse keys of a table that mean nothing here."""
    place = f"[{where}] " if where and not where.startswith("[") else f"{where} ".lstrip()
    for name in sorted(set(found) - known):
        raise UsageError(f"{place}unknown key {name!r}; known are {', '.join(sorted(known))}")
