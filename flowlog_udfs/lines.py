"""Text to columns: a block of whole lines in, typed columns and rejected lines out, every line accounted for.

The common block, plain ASCII without an odd line, is one vectorised parse. A block with a wrong value is parsed again as text, to find the
rows; a line with an odd number of tokens, other white space or other bytes is split in Python. All ways give the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from flowlog_udfs.fields import BY_NAME, NO_VALUE
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.values import BadValues, checked_columns, parse_type, typed_columns

MAX_LINE_BYTES = 65_536
"""A longer line is rejected as too_long. The longest record AWS can write, all 54 fields with full tags, is under 8 KiB."""
KEPT_LINE_CHARACTERS = 1_000
"""How much of a rejected line table `rejects` keeps."""

TOKEN_COUNT, BAD_ENCODING, TOO_LONG, BAD_TIME = "token_count", "bad_encoding", "too_long", "bad_value"

ISO_TIME = re.compile(rb"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})")
"""The time that CloudWatch Logs exports put before each record."""


class Reject(NamedTuple):
    """A line that is not a record: its number in the object (from 1), its text (cut) and why."""

    line_number: int
    line: str
    reason: str


@dataclass
class ParsedLines:
    """What so many lines became: columns named by field (null where `-`), rejects, and the number of blank lines."""

    lines: int
    columns: list[pa.Table] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    blank: int = 0


class HeaderLine(NamedTuple):
    """A header line inside a block: where it starts and ends, and the format it announces."""

    start: int
    end: int
    log_format: LogFormat


def find_headers(block: bytes, *, first_line: bool = False) -> Iterator[HeaderLine]:
    """The header lines in a block of whole lines: lines that begin with a known field name and hold nothing but field names.

    With `first_line` the block starts its object, and its first line may begin with a name newer than this release.
    """
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == 10)
    starts = np.concatenate(([0], ends[:-1] + 1))
    candidates = np.flatnonzero(_FIRST_BYTES[characters[starts]])
    if len(candidates):
        # Four bytes tell nearly every header from a record that starts with a letter, such as `eni-`.
        four = characters[np.minimum(starts[candidates, None] + np.arange(4), len(block) - 1)]
        candidates = candidates[np.isin(np.ascontiguousarray(four).view(np.uint32)[:, 0], _FIRST_FOUR)]
    if first_line:
        candidates = np.union1d(candidates, [0])
    for index in candidates:
        start, end = int(starts[index]), int(ends[index])
        may_be = (first_line and index == 0) or block[start : start + 64].split(None, 1)[0] in _NAMES
        if may_be and end - start <= MAX_LINE_BYTES:
            log_format = LogFormat.from_header(block[start:end].decode("utf-8", "replace"))
            # A lone name amid records is a broken line; only at the start is it the header of a format of one field.
            if log_format and (len(log_format.names) > 1 or (first_line and index == 0)):
                yield HeaderLine(start, end, log_format)


def parse_lines(block: bytes, log_format: LogFormat, first_number: int, *, iso_time: bool = False) -> ParsedLines:
    """Parse whole lines (the block ends in a newline) of one format; `first_number` is the number of the block's first line.

    With `iso_time` each line starts with the time that CloudWatch Logs adds, which is checked and dropped.
    """
    names = ("", *log_format.names) if iso_time else log_format.names
    signed = np.frombuffer(block, np.int8)
    ends = np.flatnonzero(signed < 32)
    is_plain = bool((signed[ends] == 10).all()) and _is_regular(ends) and not iso_time
    if not is_plain or _has_hexadecimal(block):
        # Arrow would read 0x1f as 31: blocks with such a token, or with other than printable ASCII, are split in Python.
        lines = block.split(b"\n")[:-1]
        return _parse_split(lines, range(first_number, first_number + len(lines)), names)

    odd: list[tuple[int, bytes]] = []
    parsed = ParsedLines(lines=len(ends))
    try:
        columns = typed_columns(_read_columns(block, names, odd, typed=True))
    except (BadValues, pa.ArrowInvalid):
        odd.clear()
        texts = _read_columns(block, names, odd, typed=False)
        line_of_row = np.delete(np.arange(len(ends)), [row for row, _ in odd])
        # An empty token stands between two spaces: such a line has fewer tokens than it seems.
        gaps = np.logical_or.reduce([np.asarray(pc.fill_null(pc.equal(column, ""), False)) for column in texts.columns])
        odd += [(int(line), _line(block, ends, line)) for line in line_of_row[gaps]]
        columns, bad_rows, reasons = checked_columns(texts.filter(pa.array(~gaps)))
        for line, reason in zip(line_of_row[~gaps][bad_rows], reasons, strict=True):
            parsed.rejects.append(_reject(first_number + int(line), _line(block, ends, line), reason))
    parsed.columns.append(columns)
    if odd:
        again = _parse_split([line for _, line in odd], [first_number + row for row, _ in odd], names)
        parsed.columns += again.columns
        parsed.rejects += again.rejects
        parsed.blank += again.blank
    return parsed


def _parse_split(lines: list[bytes], numbers: range | list[int], names: tuple[str, ...]) -> ParsedLines:
    """Parse lines one by one on runs of white space; slower, for lines that the block parser cannot take."""
    parsed = ParsedLines(lines=len(lines))
    kept: list[tuple[int, bytes, list[bytes]]] = []
    for number, line in zip(numbers, lines, strict=True):
        tokens = line.split()
        if len(line) > MAX_LINE_BYTES:
            parsed.rejects.append(_reject(number, line, TOO_LONG))
        elif not tokens:
            parsed.blank += 1
        elif not _is_text(line):
            parsed.rejects.append(_reject(number, line, BAD_ENCODING))
        elif len(tokens) != len(names):
            parsed.rejects.append(_reject(number, line, TOKEN_COUNT))
        elif not names[0] and not ISO_TIME.fullmatch(tokens[0]):
            parsed.rejects.append(_reject(number, line, BAD_TIME))
        else:
            kept.append((number, line, tokens))
    if kept:
        by_column = zip(names, zip(*(tokens for _, _, tokens in kept), strict=True), strict=True)
        texts = {name: pa.array([None if t == b"-" else t.decode() for t in tokens], pa.string()) for name, tokens in by_column if name}
        columns, bad_rows, reasons = checked_columns(pa.table(texts))
        parsed.columns.append(columns)
        for row, reason in zip(bad_rows, reasons, strict=True):
            number, line, _ = kept[row]
            parsed.rejects.append(_reject(number, line, reason))
    return parsed


def _read_columns(block: bytes, names: tuple[str, ...], odd: list[tuple[int, bytes]], *, typed: bool) -> pa.Table:
    """One pass of Arrow's CSV parser; lines with another number of tokens go to `odd` with their index."""

    def set_aside(row: csv.InvalidRow) -> str:
        odd.append((row.number - 1, row.text.encode()))
        return "skip"

    return csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False, escape_char=False, invalid_row_handler=set_aside),
        csv.ConvertOptions(
            column_types={name: parse_type(name) if typed else pa.string() for name in names},
            null_values=[NO_VALUE],
            strings_can_be_null=True,
            check_utf8=False,
        ),
    )


def _line(block: bytes, ends: npt.NDArray[np.intp], index: int) -> bytes:
    return block[ends[index - 1] + 1 if index else 0 : ends[index]]


def _is_regular(ends: npt.NDArray[np.intp]) -> bool:
    """Whether no line is blank or too long."""
    lengths = np.diff(ends, prepend=-1)
    return bool(lengths.min() > 1 and lengths.max() <= MAX_LINE_BYTES)


def _has_hexadecimal(block: bytes) -> bool:
    return (b"x" in block or b"X" in block) and bool(_HEXADECIMAL.search(block))


def _is_text(line: bytes) -> bool:
    """Whether the line is UTF-8 without control characters other than white space."""
    try:
        return not _CONTROL.search(line.decode())
    except UnicodeDecodeError:
        return False


def _reject(number: int, line: bytes, reason: str) -> Reject:
    return Reject(number, line[: 4 * KEPT_LINE_CHARACTERS].decode("utf-8", "replace")[:KEPT_LINE_CHARACTERS].rstrip("\r"), reason)


_HEXADECIMAL = re.compile(rb"(?:\A|[ \n])0[xX]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_NAMES = frozenset(name.encode() for name in BY_NAME)
_FIRST_BYTES = np.zeros(256, dtype=bool)
_FIRST_BYTES[[name[0] for name in _NAMES]] = True
_FIRST_FOUR = np.unique(np.frombuffer(b"".join((name + b" ")[:4] for name in _NAMES), np.uint32))
