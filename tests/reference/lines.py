"""Text objects in plain Python: what each line is, one line at a time, slow and obvious.

In: the content of a text object, inflated, and the format that its flow log is known to have. Out: `Content`, the answer against which
the kernel's is checked.

    line   is header, blank, record, or a reject with one reason, and nothing else
    header nothing but distinct field names, of which at least half are known; but for the object's first line it begins with a known one
    reject the first of these that holds: too_long, bad_encoding, token_count, a wrong time before the record, the first wrong value
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowlog_udfs.fields import BY_NAME, Address, Number, OneOf, UnixTime

LONGEST_LINE = 65_536
KEPT = 1_000
FIRST_MILLISECONDS = 10**11
AFTER_LAST_SECOND = 253_402_300_800  # 10000-01-01T00:00:00Z
BLANKS = b" \t\n\r\x0b\x0c"
CONTROL = re.compile("[\x00-\x08\x0e-\x1f]")
"""Characters below 32 that are not white space."""
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:?\d{2})", re.ASCII)

Values = tuple[tuple[str, int | str], ...]
"""The values of a record that are not absent, by field, in order of names."""


@dataclass
class Content:
    """What the lines of an object are; `records` in their order, rejects as (line number, kept text, reason)."""

    lines: int = 0
    headers: int = 0
    blank: int = 0
    records: list[Values] = field(default_factory=list)
    rejects: list[tuple[int, str, str]] = field(default_factory=list)
    is_flow_log: bool = True
    """False where the first line that is not a header has no format to be read by."""


def read_content(content: bytes, names: Sequence[str] | None, exported: Sequence[str]) -> Content:
    """Read an object; `names` is the format from the plan, `exported` that of CloudWatch exports, which put a time before each record."""
    content = content.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    elif lines[-1].endswith(b"\r"):
        lines[-1] = lines[-1][:-1]
    has_time = bool(TIME.match(lines[0][:100].decode("latin-1"))) if lines else False
    names = exported if has_time else names
    found = Content()
    for line in lines:
        found.lines += 1
        header = header_names(line, is_first=found.lines == 1)
        if header:
            found.headers += 1
            names, has_time = header, False
            continue
        if names is None:
            found.is_flow_log = False
            return found
        answer = read_line(line, names, has_time=has_time)
        if answer is None:
            found.blank += 1
        elif isinstance(answer, str):
            found.rejects.append((found.lines, line.decode("utf-8", "replace")[:KEPT].rstrip("\r"), answer))
        else:
            found.records.append(answer)
    return found


def header_names(line: bytes, *, is_first: bool) -> Sequence[str] | None:
    """The field names of a header line; None for any other line."""
    if len(line) > LONGEST_LINE or not line.isascii():
        return None
    names = [token.decode() for token in line.split()]
    well_formed = all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in names)
    if not names or not well_formed or len(set(names)) < len(names) or 2 * sum(name in BY_NAME for name in names) < len(names):
        return None
    return names if is_first or (len(names) > 1 and names[0] in BY_NAME and not line[:1].isspace()) else None


def read_line(line: bytes, names: Sequence[str], *, has_time: bool = False) -> Values | str | None:
    """A record's values, the reason of a reject, or None for a blank line."""
    if len(line) > LONGEST_LINE:
        return "too_long"
    if not line.strip(BLANKS):
        return None
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "bad_encoding"
    if CONTROL.search(text):
        return "bad_encoding"
    tokens = [token.decode() for token in line.split()]
    if len(tokens) != len(names) + has_time:
        return "token_count"
    if has_time and not TIME.fullmatch(tokens.pop(0)):
        return "bad_value"
    values: dict[str, int | str] = {}
    for name, token in zip(names, tokens, strict=True):
        if token != "-":
            value = read_value(name, token)
            if value is None:
                return reason_of(name)
            values[name] = value
    if values.get("traffic-path") == 0:  # as absent, which AWS writes as `-`
        del values["traffic-path"]
    return tuple(sorted(values.items()))


def read_value(name: str, token: str) -> int | str | None:
    """A value; None where it is outside its field's domain."""
    domain = BY_NAME[name].domain if name in BY_NAME else None
    if isinstance(domain, Number | UnixTime):
        if not re.fullmatch(r"[0-9]+", token) or len(token.lstrip("0")) > 19:
            return None
        number = int(token.lstrip("0") or "0")
        if isinstance(domain, Number):
            return number if domain.low <= number <= domain.high else None
        seconds = number // 1000 if number >= FIRST_MILLISECONDS else number
        return seconds if seconds < AFTER_LAST_SECOND else None
    if isinstance(domain, OneOf):
        return token if token in domain.words else None
    if isinstance(domain, Address):
        try:
            return None if "%" in token else str(ipaddress.ip_address(token)) and token
        except ValueError:
            return None
    return token


def reason_of(name: str) -> str:
    """Why a wrong value of a field rejects its line."""
    domain = BY_NAME[name].domain
    return "bad_number" if isinstance(domain, Number | UnixTime) else "bad_address" if isinstance(domain, Address) else "bad_value"
