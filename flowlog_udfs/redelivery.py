"""Redelivered objects: a delivery that came a second time, under another key or with some rows more.

Two objects of one flow log are one delivery if the rows that they share are at least `SAME_SHARE` of the larger one's. Of such a pair the
one with the greater key yields: its n-th copy of a row is redelivered if the other holds n or more. Equal rows of one object, or of objects
that differ otherwise, are real. While objects are read, each leaves a sketch of its rows; objects whose sketches look alike are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, as_array, codes, is_among, mixed, numbers, text_hashes
from flowlog_udfs.fields import FIELDS
from flowlog_udfs.sorting import sort_by

Hashes = npt.NDArray[np.uint64]

SAME_SHARE = 0.9
SKETCH_ROWS = 16
"""The least distinct hashes that are kept of an object: enough that one common hash suffices to suspect a pair (see `suspects`), and 128
bytes in a table row."""


def _factor(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") | 1)


_FACTORS = {field.name: _factor(field.name) for field in FIELDS}


def row_hashes(records: pa.Table) -> Hashes:
    """A 64-bit hash of each row of table `records` by all its fields, the same on every machine; what names its object is left out.

    Each field has an odd factor of its own, so that a sum of products tells rows apart; it is mixed once, at the end. Null adds nothing,
    whatever other rows hold: a row's hash does not depend on those it was read with, and fields that a format lacks cost nothing.
    """
    total = np.zeros(records.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for field in FIELDS:
            column = records.column(field.column)
            if column.null_count == records.num_rows:
                continue
            values = _text_values(column) if field.type == "STRING" else _number_values(column)
            total += values * _FACTORS[field.name]
        extra = records.column("extra_fields")
        if extra.null_count < records.num_rows:
            total += _map_values(as_array(extra))
    return mixed(total.view(np.int64))


def _number_values(column: pa.ChunkedArray | pa.Array) -> Hashes:
    # No field is negative, so one more than a value is never what null is.
    return (numbers(column, -1) + 1).view(np.uint64)


def _text_values(column: pa.ChunkedArray | pa.Array) -> Hashes:
    code, words = codes(column)
    return np.append(text_hashes(words), np.uint64(0))[code]


def _map_values(maps: pa.MapArray) -> Hashes:
    """A hash of each map's entries in any order; 0 for null, which an empty map is not."""
    offsets = np.asarray(maps.offsets).astype(np.int64)
    first, entries = int(offsets[0]), int(offsets[-1] - offsets[0])
    names, values = (_text_values(part.slice(first, entries)).view(np.int64) for part in (maps.keys, maps.items))
    running = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed(names, values))))
    sums = running[offsets[1:] - first] - running[offsets[:-1] - first]
    return np.where(np.asarray(maps.is_valid()), mixed(sums.view(np.int64), np.diff(offsets)), np.uint64(0))


def sketch(hashes: Hashes, known: Sequence[int] = ()) -> list[int]:
    """The least distinct hashes of an object's rows, as signed numbers; `known` is the sketch of its rows before."""
    found = np.concatenate((hashes, np.array(known, np.int64).view(np.uint64)))
    if len(found) > 64 * SKETCH_ROWS:
        # Copies are few, so this many of the least hashes hold enough distinct ones; if not, all are looked at.
        least = np.unique(np.partition(found, 32 * SKETCH_ROWS)[: 32 * SKETCH_ROWS])
        found = least if len(least) >= SKETCH_ROWS else found
    kept: list[int] = np.unique(found)[:SKETCH_ROWS].view(np.int64).tolist()
    return kept


def suspects(objects: Iterable[tuple[str, str, int, Sequence[int] | None]]) -> list[tuple[str, ...]]:
    """Groups of objects (key, flow log, records, sketch) of one flow log that may be deliveries of the same rows, in order of keys.

    A pair is suspected if its sketches have a hash in common and its numbers of records allow for `SAME_SHARE`; groups are what such pairs
    connect. Sorted by records, the holders of a hash connect through neighbours, so no other pairs are looked at.

    What is missed: no pair of which neither object has more than `SKETCH_ROWS` distinct rows, for their sketches are whole and hold the row
    that they share. Of larger ones a pair whose `SKETCH_ROWS` least hashes, of both together, are all of rows that one of them lacks. If
    rows are distinct, at most 2 of 11 rows are such: a chance of (2/11)^16, one in 10^12; objects that are wholly equal are never missed.
    Copies matter only where rows in common have them and the others have not: at five copies each, one pair in 29,000 that just reaches
    `SAME_SHARE`.
    """
    listed = [(key, log, count, least or ()) for key, log, count, least in objects]
    log_codes = {log: code for code, log in enumerate(sorted({log for _, log, _, _ in listed}))}
    number = np.repeat(np.arange(len(listed)), [len(least) for *_, least in listed])
    log = np.array([log_codes[log] for _, log, _, _ in listed], np.int64)[number]
    records = np.array([count for _, _, count, _ in listed], np.int64)[number]
    value = np.fromiter(chain.from_iterable(least for *_, least in listed), np.int64, len(number))
    order = sort_by(log, value, records)
    number, log, value, records = number[order], log[order], value[order], records[order]
    alike = (log[1:] == log[:-1]) & (value[1:] == value[:-1]) & (records[:-1] >= SAME_SHARE * records[1:])
    pairs = np.unique(np.column_stack((number[:-1], number[1:]))[alike], axis=0)
    joined: dict[int, list[int]] = {one: [one] for one in np.unique(pairs).tolist()}
    for one, other in pairs.tolist():
        fewer, more = sorted((joined[one], joined[other]), key=len)
        if fewer is not more:
            more += fewer
            joined.update(dict.fromkeys(fewer, more))
    groups = {id(group): group for group in joined.values()}.values()
    return sorted(tuple(sorted(listed[one][0] for one in group)) for group in groups)


def redelivered(hashes: Hashes, of_object: Ints, keys: Sequence[str]) -> Flags:
    """Which rows were delivered before in another object; `of_object` is each row's place in `keys`. Rows may be in any order.

    All rows are of one flow log, and no row of a named object is left out.
    """
    result = np.zeros(len(hashes), dtype=bool)
    order = sort_by(of_object, hashes)
    runs = Groups.of(of_object[order], hashes[order])
    copy = np.empty(len(hashes), np.int64)
    copy[order] = np.arange(len(hashes)) - runs.spread(runs.starts)
    # The n-th copies of equal rows count as equal, and others not: a multiset as a set.
    nth = mixed(hashes.view(np.int64), copy)
    objects = Groups.of(of_object[order])
    begins, sizes = objects.starts.tolist(), objects.sizes.tolist()
    rows = {int(of_object[order[begin]]): order[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)}
    sorted_rows = {place: np.sort(nth[found]) for place, found in rows.items()}
    in_order = sorted(rows, key=lambda place: keys[place])
    for number, later in enumerate(in_order):
        for earlier in in_order[:number]:
            larger = max(len(rows[later]), len(rows[earlier]))
            if min(len(rows[later]), len(rows[earlier])) < SAME_SHARE * larger:
                continue
            held = is_among(nth[rows[later]], sorted_rows[earlier])
            if held.sum() >= SAME_SHARE * larger:
                result[rows[later][held]] = True
    return result
