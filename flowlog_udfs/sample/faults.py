"""What goes wrong inside text objects: lines that are no records, and liberties that a reader must bear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from flowlog_udfs.sample.formats import Format

BAD_SHARE = 2e-4
"""Bad lines per good one, far below the share at which a run refuses a day."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record: its number in the object (from 1), its text, and the reason a reader must give."""

    line_number: int
    line: str
    reason: str


@dataclass
class TextObject:
    """The lines of a text object while faults are put in. Bytes that are no UTF-8 stand as surrogate escapes."""

    format: Format
    lines: list[str]
    headers: int = 1
    blank: int = 0
    final_newline: bool = True
    reasons: dict[str, str] = field(default_factory=dict)
    record: str = field(init=False)

    def __post_init__(self) -> None:
        """Keep one good record as the model of the bad ones."""
        self.record = self.lines[1]

    def insert_bad(self, line: str, reason: str) -> None:
        """Add a bad line somewhere in the object; each one is marked by its own text."""
        self.lines.insert(1 + len(line) * 7 % len(self.lines), line)
        self.reasons[line] = reason

    def changed(self, name: str, value: str) -> str:
        """A copy of a record with another value in one field."""
        tokens = self.record.split()
        tokens[self.format.index(name)] = value
        return " ".join(tokens)

    def bad_lines(self) -> list[BadLine]:
        """The bad lines, where they ended up."""
        return [BadLine(number, line, self.reasons[line]) for number, line in enumerate(self.lines, 1) if line in self.reasons]

    def encode(self) -> bytes:
        """The object's bytes before compression."""
        return ("\n".join(self.lines) + "\n" * self.final_newline).encode("utf-8", "surrogateescape")


Fault = Callable[[TextObject], None]


def _bad_field(name: str, value: str, reason: str, content: TextObject) -> None:
    if name in content.format:
        content.insert_bad(content.changed(name, value), reason)


def _too_few(content: TextObject) -> None:
    content.insert_bad(" ".join(content.record.split()[:-3]), "token_count")


def _too_many(content: TextObject) -> None:
    content.insert_bad(content.record + " -", "token_count")


def _garbage(content: TextObject) -> None:
    content.insert_bad("%%%% no space left on device %%%%", "token_count")


def _second_header(content: TextObject) -> None:
    content.lines.insert(len(content.lines) // 2 + 1, content.lines[0])
    content.headers += 1


def _blank_line(content: TextObject) -> None:
    content.lines.insert(len(content.lines) // 2 + 1, "")
    content.blank += 1


def _double_spaces(content: TextObject) -> None:
    content.lines[1] = content.lines[1].replace(" ", "  ", 3)


def _no_final_newline(content: TextObject) -> None:
    content.final_newline = False


BAD_LINES: tuple[Fault, ...] = (
    _too_few,
    partial(_bad_field, "protocol", "six", "bad_number"),
    partial(_bad_field, "srcaddr", "999.1.1.1", "bad_address"),
    _garbage,
    partial(_bad_field, "action", "ALLOW", "bad_value"),
    partial(_bad_field, "interface-id", "eni-\udcff\udcfe", "bad_encoding"),
    _too_many,
    partial(_bad_field, "dstaddr", "2001:db8::12345", "bad_address"),
)
LIBERTIES: tuple[Fault, ...] = (_double_spaces, _blank_line, _no_final_newline, _second_header)


def plan_faults(sizes: Sequence[int], seed: int) -> Mapping[int, tuple[Fault, ...]]:
    """Which objects get which faults, given how many lines each text object has (0 for others): liberties first, then bad lines.

    At most eight objects in a thousand are touched beside the first dozen, so that most are as AWS writes them.
    """
    rng = np.random.default_rng([seed, 5])
    able = np.flatnonzero(np.array(sizes) >= 2)
    wanted = max(len(BAD_LINES), int(sum(sizes) * BAD_SHARE))
    hosts = rng.choice(able, min(len(able), 12 + len(able) // 125), replace=False).tolist() if len(able) else []
    faults: dict[int, list[Fault]] = defaultdict(list)
    for number, liberty in enumerate(LIBERTIES if hosts else ()):
        faults[hosts[number % len(hosts)]].append(liberty)
    for number in range(wanted if hosts else 0):
        # One bad line of each sort and object: equal lines could not be told apart in the truth.
        host = hosts[number // len(BAD_LINES) % len(hosts)] if wanted > len(hosts) else hosts[number]
        if BAD_LINES[number % len(BAD_LINES)] not in faults[host]:
            faults[host].append(BAD_LINES[number % len(BAD_LINES)])
    return {place: tuple(chosen) for place, chosen in faults.items()}
