"""The bytes of a text object to blocks of whole lines and to runs of one format: inflated, gathered, cut at line ends and at headers.

Memory is that of a few blocks, whatever comes. Damage and content past the limit raise `EOFError`, `isal_zlib.error` or `ObjectError` from
wherever they are met.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from isal import isal_zlib

from flowlog_udfs.errors import ObjectError
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.lines import MAX_LINE_BYTES, find_headers

BLOCK_BYTES = 8 << 20
"""Content parsed at a time: large enough to amortise a call, small enough to stay in cache and memory."""
BLOCK_LINES = 1 << 18
"""Lines parsed at a time, at most: a line without a record costs memory by itself, be it two bytes long."""
SLICE_BYTES = 64 << 10
"""Compressed bytes inflated at a time: what follows the end of a gzip member is copied, which for many small members in a large slice would
take the square of their number."""


def inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members (RFC 1952); raises `EOFError` when the last one is cut short."""
    inflater = isal_zlib.decompressobj(wbits=31)
    for piece in pieces:
        for start in range(0, len(piece), SLICE_BYTES):
            rest = piece[start : start + SLICE_BYTES]
            while rest:
                if inflater.eof:
                    inflater = isal_zlib.decompressobj(wbits=31)
                yield inflater.decompress(rest, BLOCK_BYTES)
                rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        raise EOFError("the gzip stream is cut short")


def blocks(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """Content cut at line ends, a last newline added where it is missing. Of a line too long to be one only the beginning is kept.

    Raises `ObjectError` when the content passes `max_bytes`.
    """
    size, carry = 0, b""
    for piece in _gathered(pieces):
        size += len(piece)
        if size > max_bytes:
            raise ObjectError(f"too large: the content passes {max_bytes} bytes ([ingest] max_object_bytes)")
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield b"".join((carry, memoryview(piece)[:cut]))
            carry = piece[cut:]
        else:
            carry += piece
        carry = carry[: MAX_LINE_BYTES + 1]
    if carry:
        yield carry + b"\n"


@dataclass
class Run:
    """Lines of one format, in pieces, and of each header line among them how many of the lines stand before it.

    Objects put together from many have as many headers: where these say the same, all lines between them are parsed at once.
    """

    log_format: LogFormat | None
    iso_time: bool = False
    headers: list[int] = field(default_factory=list)
    lines: int = 0
    _pieces: list[bytes] = field(default_factory=list)

    def add(self, piece: bytes) -> None:
        """Take more lines."""
        self._pieces.append(piece)
        self.lines += piece.count(b"\n")

    def parts(self) -> Iterator[bytes]:
        """The lines, at most `BLOCK_LINES` at a time."""
        whole = b"".join(self._pieces)
        if self.lines <= BLOCK_LINES:
            yield from filter(None, [whole])
            return
        ends = np.flatnonzero(np.frombuffer(whole, np.uint8) == 10) + 1
        cuts = [0, *ends[BLOCK_LINES - 1 : -1 : BLOCK_LINES].tolist(), len(whole)]
        for start, end in pairwise(cuts):
            yield whole[start:end]

    def place(self, line: int) -> int:
        """The place of a line among lines and headers; both are counted from 0."""
        return line + bisect_right(self.headers, line)


def runs(block: bytes, log_format: LogFormat | None, *, iso_time: bool, first_line: bool) -> Iterator[Run]:
    """A block of whole lines cut where the format changes, which is where a header line says so; there is always a last one."""
    run, offset = Run(log_format, iso_time), 0
    for header in find_headers(block, first_line=first_line):
        run.add(block[offset : header.start])
        if run.iso_time or header.log_format != run.log_format:
            yield run
            run = Run(header.log_format)
        run.headers.append(run.lines)
        offset = header.end + 1
    run.add(block[offset:] if offset else block)
    yield run


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of a block's size."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if piece:
            held.append(piece)
            size += len(piece)
        if size >= BLOCK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
