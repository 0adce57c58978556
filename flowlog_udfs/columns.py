"""Arrow columns as numpy arrays, and sums over groups of sorted rows: the vocabulary of the analytics kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PLACEHOLDER = "::"
"""The word of a dictionary that needs none: no row has it, and readers of addresses understand it."""

DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What pyarrow raises for a damaged file: names and texts that are not UTF-8 are not always its own error."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def as_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()


def numbers(column: pa.ChunkedArray | pa.Array, absent: int) -> Ints:
    """An integer, boolean or date column as int64, with `absent` for null."""
    values = as_array(column)
    if values.null_count or not pa.types.is_integer(values.type):
        values = pc.fill_null(values.cast(pa.int64()), absent)
    return np.asarray(values).astype(np.int64, copy=False)


def total(column: pa.ChunkedArray | pa.Array) -> int:
    """The sum of a column of whole numbers, null as 0, however large: Arrow and numpy let sums of 64 bits wrap around."""
    values = numbers(column, 0)
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())


def codes(column: pa.ChunkedArray | pa.Array) -> tuple[Ints, pa.Array]:
    """A text column as (codes, the texts they stand for); code -1 is null."""
    values = as_array(column)
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    indices = pc.fill_null(values.indices, -1) if values.null_count else values.indices
    return np.asarray(indices).astype(np.int64, copy=False), values.dictionary


def ranked(code: Ints, words: pa.Array) -> Ints:
    """Codes that stand in the order of their texts, so that no order of rows shows; null stays -1."""
    rank = np.empty(len(words) + 1, np.int64)
    rank[np.argsort(np.array(words.to_pylist(), dtype=object), kind="stable")] = np.arange(len(words))
    rank[-1] = -1
    return rank[code]


def texts(chosen: Ints, words: pa.Array) -> pa.DictionaryArray:
    """The inverse of `codes`: codes below 0 become null.

    Arrow joins dictionaries by looking up every index, those of nulls too: theirs must be that of some word, so there is always one.
    """
    if not len(words) and len(chosen):
        words = pa.array([PLACEHOLDER], words.type)
    return pa.DictionaryArray.from_arrays(pa.array(np.maximum(chosen, 0).astype(np.int32), mask=chosen < 0), words)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other as one chunk, each text column with one dictionary; dictionaries without a word are given one first."""
    table = pa.concat_tables(tables)
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if not pa.types.is_dictionary(field.type) or not table.num_rows:
            continue
        if column.null_count == table.num_rows:
            # Most fields of most formats: one column without a value is cheaper than many that are joined.
            absent = texts(np.full(table.num_rows, -1), pa.array([], field.type.value_type))
            table = table.set_column(place, field, absent.cast(field.type))
        elif any(len(chunk.dictionary) == 0 for chunk in column.chunks):
            chunks = [chunk if len(chunk.dictionary) else texts(np.full(len(chunk), -1), chunk.dictionary) for chunk in column.chunks]
            table = table.set_column(place, field, pa.chunked_array(chunks).cast(field.type))
    return table.unify_dictionaries().combine_chunks()


def without_placeholders(table: pa.Table) -> pa.Table:
    """A table of one chunk as it goes to a file, whose statistics are made of a dictionary's words: the placeholder is no one's minimum."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and table.num_rows:
            column = as_array(table.column(place))
            if column.null_count == len(column):
                absent = pa.DictionaryArray.from_arrays(column.indices, column.dictionary.slice(0, 0))
                table = table.set_column(place, field, absent)
                continue
            at = pc.index(column.dictionary, PLACEHOLDER).as_py()
            if at >= 0 and not ((code := codes(column)[0]) == at).any():
                kept = np.arange(len(column.dictionary)) != at
                moved = np.maximum(code - (code > at), 0).astype(np.int32)
                column = pa.DictionaryArray.from_arrays(pa.array(moved, mask=code < 0), column.dictionary.filter(pa.array(kept)))
                table = table.set_column(place, field, column)
    return table


def equals(column: pa.ChunkedArray | pa.Array, word: str) -> Flags:
    """Where a text column holds a word."""
    found, words = codes(column)
    known = words.to_pylist()
    return found == known.index(word) if word in known else np.zeros(len(found), dtype=bool)


def shared_codes(*columns: pa.ChunkedArray | pa.Array) -> tuple[list[Ints], pa.Array]:
    """Several text columns in one vocabulary: their codes, and the texts that all of them stand for."""
    encoded = [value if pa.types.is_dictionary((value := as_array(column)).type) else value.dictionary_encode() for column in columns]
    encoded = [value if len(value.dictionary) else texts(np.full(len(value), -1), value.dictionary) for value in encoded]
    unified = pa.chunked_array(encoded).unify_dictionaries()
    return [codes(chunk)[0] for chunk in unified.chunks], unified.chunk(0).dictionary


@dataclass(frozen=True)
class Groups:
    """Runs of equal keys in sorted rows: where each begins, how many rows there are, and the group of each row."""

    starts: Ints
    rows: int

    @classmethod
    def of(cls, *keys: npt.NDArray[Any]) -> Groups:
        """The runs in rows that are sorted by `keys`."""
        rows = len(keys[0])
        changed = np.zeros(rows, dtype=bool)
        if rows:
            changed[0] = True
        for key in keys:
            changed[1:] |= key[1:] != key[:-1]
        return cls(np.flatnonzero(changed), rows)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> Ints:
        """Rows of each group."""
        return np.diff(self.starts, append=self.rows)

    @property
    def ids(self) -> Ints:
        """The group of each row."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One value per group to one per row."""
        return np.repeat(values, self.sizes)

    def sum(self, values: npt.NDArray[Any]) -> Ints:
        """Sums by group; booleans are counted."""
        return np.add.reduceat(values.astype(np.int64, copy=False), self.starts) if len(self) else np.zeros(0, np.int64)

    def min(self, values: Ints) -> Ints:
        """Minima by group."""
        return np.minimum.reduceat(values, self.starts) if len(self) else values[:0]

    def max(self, values: Ints) -> Ints:
        """Maxima by group."""
        return np.maximum.reduceat(values, self.starts) if len(self) else values[:0]

    def any(self, values: Flags) -> Flags:
        """Whether any row of the group has it."""
        return np.logical_or.reduceat(values, self.starts) if len(self) else values[:0]

    def all(self, values: Flags) -> Flags:
        """Whether all rows of the group have it."""
        return np.logical_and.reduceat(values, self.starts) if len(self) else values[:0]

    def bits(self, values: Ints) -> Ints:
        """The bitwise OR by group."""
        return np.bitwise_or.reduceat(values, self.starts) if len(self) else values[:0]

    def last_where(self, chosen: Flags) -> Ints:
        """The place of the last chosen row up to each row within its group, the row's own included; -1 for none."""
        last = np.maximum.accumulate(np.where(chosen, np.arange(self.rows), -1)) if self.rows else np.zeros(0, np.int64)
        return np.where(last >= self.spread(self.starts), last, -1)

    def running_max(self, values: Ints) -> Ints:
        """The greatest value so far within each group, the row's own included."""
        # Shifting each group above the former one makes one running maximum serve them all.
        low, high = (values.min(), values.max()) if self.rows else (0, 0)
        shift = self.ids * (int(high) - int(low) + 1)
        return np.maximum.accumulate(values - low + shift) - shift + low

    def running_sum(self, values: npt.NDArray[Any]) -> Ints:
        """The sum of the rows before each row within its group, the row's own left out."""
        before = np.cumsum(values.astype(np.int64)) - values
        return before - self.spread(before[self.starts]) if len(self) else before


def spans(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """All places of half-open ranges one after the other: the range of each, and the place."""
    sizes = np.maximum(last - first, 0)
    of_range = np.repeat(np.arange(len(sizes)), sizes)
    before = np.cumsum(sizes) - sizes
    return of_range, np.arange(len(of_range)) - before[of_range] + first[of_range]


def is_among(values: npt.NDArray[Any], known: npt.NDArray[Any]) -> Flags:
    """Whether each value is one of the known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)


def text_hashes(words: pa.Array) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text, the same on every machine; null hashes like the empty text."""
    plain = words.cast(pa.large_string())
    offsets = np.frombuffer(plain.buffers()[1], np.int64)[plain.offset : plain.offset + len(plain) + 1]
    sizes = np.diff(offsets)
    octets = np.frombuffer(plain.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64) + np.uint64(1)
    totals = np.zeros(len(plain), np.uint64)
    filled = sizes > 0
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(int(sizes.max(initial=0)), 0x100000001B3, np.uint64))
        position = np.arange(len(octets)) - np.repeat(offsets[:-1] - offsets[0], sizes)
        if len(octets):
            totals[filled] = np.add.reduceat(octets * powers[position], (offsets[:-1] - offsets[0])[filled])
    return mixed(totals.view(np.int64), sizes)


def mixed(*values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of integer columns, the same on every machine (splitmix64)."""
    result = np.zeros(len(values[0]), np.uint64)
    with np.errstate(over="ignore"):
        for value in values:
            result += np.asarray(value).astype(np.int64, copy=False).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            result = (result ^ (result >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            result = (result ^ (result >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            result ^= result >> np.uint64(31)
    return result
