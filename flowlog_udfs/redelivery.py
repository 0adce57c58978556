"""Redelivered objects: a delivery that came a second time, under another key or with some rows more.

Two objects of one flow log are one delivery if the rows that they share are at least `SAME_SHARE` of the larger one's. Of such a pair the
one with the greater key yields: its n-th copy of a row is redelivered if the other holds n or more. Equal rows of one object, or of objects
that differ otherwise, are real. While objects are read, each leaves a sketch of its rows; objects whose sketches look alike are compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, as_array, codes, mixed, numbers, sort_by
from flowlog_udfs.fields import FIELDS

Hashes = npt.NDArray[np.uint64]

SAME_SHARE = 0.9
SKETCH_ROWS = 16
"""The least hashes that are kept of an object. Where two objects share 90 % of the larger one's rows, at least 82 % of all their rows are
common; that fewer than a quarter of 16 least hashes are, happens to one such pair in ten million."""
SUSPICIOUS_SHARE = 0.25
"""So much of two sketches in common makes a comparison worth while."""


def row_hashes(records: pa.Table) -> Hashes:
    """A 64-bit hash of each record by all its fields, the same on every machine; what names its object is left out.

    Each field has a factor of its own, so that a sum of products tells rows apart; it is mixed once, at the end.
    """
    total = np.zeros(records.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for field in FIELDS:
            column = records.column(field.column)
            if column.null_count == records.num_rows:
                continue
            if field.type == "STRING":
                code, words = codes(column)
                values = np.array([*map(_number, words.to_pylist()), 0], np.int64)[code]
            else:
                # No field can be -2, so null is told from every value.
                values = numbers(column, -2) + 1
            total += values.view(np.uint64) * np.uint64(_number(field.name) & 0xFFFF_FFFF_FFFF_FFFF | 1)
        extra = records.column("extra_fields")
        if extra.null_count < records.num_rows:
            values = np.array([_number(repr(sorted(value or ()))) for value in as_array(extra).to_pylist()], np.int64)
            total += values.view(np.uint64)
    return mixed(total.view(np.int64))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def sketch(hashes: Hashes, known: Sequence[int] = ()) -> list[int]:
    """The least distinct hashes of an object's rows, as signed numbers; `known` is the sketch of its rows before."""
    found = np.concatenate((hashes, np.array(known, np.int64).view(np.uint64)))
    if len(found) > 64 * SKETCH_ROWS:
        # Copies are few, so this many of the least hashes hold enough distinct ones; if not, all are looked at.
        least = np.unique(np.partition(found, 32 * SKETCH_ROWS)[: 32 * SKETCH_ROWS])
        found = least if len(least) >= SKETCH_ROWS else found
    kept: list[int] = np.unique(found)[:SKETCH_ROWS].view(np.int64).tolist()
    return kept


def suspects(objects: Iterable[tuple[str, str, int, Sequence[int]]]) -> list[tuple[str, ...]]:
    """Groups of objects (key, flow log, records, sketch) of one flow log that may be deliveries of the same rows, in order of keys."""
    records: dict[str, int] = {}
    sizes: dict[str, int] = {}
    holders: dict[tuple[str, int], list[str]] = defaultdict(list)
    for key, flow_log_id, count, least in objects:
        records[key], sizes[key] = count, len(least or ())
        for value in least or ():
            holders[flow_log_id, value].append(key)
    common: Counter[tuple[str, str]] = Counter()
    for keys in holders.values():
        if len(keys) > 1:
            common.update(combinations(sorted(keys), 2))
    joined = {key: {key} for pair in common for key in pair}
    for (one, other), shared in common.items():
        alike_in_size = min(records[one], records[other]) >= SAME_SHARE * max(records[one], records[other])
        if alike_in_size and shared >= SUSPICIOUS_SHARE * min(sizes[one], sizes[other]) and joined[one] is not joined[other]:
            joined[one] |= joined[other]
            for key in joined[other]:
                joined[key] = joined[one]
    groups = {id(group): tuple(sorted(group)) for group in joined.values() if len(group) > 1}
    return sorted(groups.values())


def redelivered(hashes: Hashes, of_object: Ints, keys: Sequence[str]) -> Flags:
    """Which rows were delivered before in another object; `of_object` is each row's place in `keys`. Rows may be in any order."""
    result = np.zeros(len(hashes), dtype=bool)
    order = sort_by(of_object, hashes)
    runs = Groups.of(of_object[order], hashes[order])
    copy = np.empty(len(hashes), np.int64)
    copy[order] = np.arange(len(hashes)) - runs.spread(runs.starts)
    # The n-th copies of equal rows count as equal, and others not: a multiset as a set.
    nth = mixed(hashes.view(np.int64), copy)
    rows = {place: np.flatnonzero(of_object == place) for place in np.unique(of_object).tolist()}
    sorted_rows = {place: np.sort(nth[found]) for place, found in rows.items()}
    in_order = sorted(rows, key=lambda place: keys[place])
    for number, later in enumerate(in_order):
        for earlier in in_order[:number]:
            larger = max(len(rows[later]), len(rows[earlier]))
            if min(len(rows[later]), len(rows[earlier])) < SAME_SHARE * larger:
                continue
            known = sorted_rows[earlier]
            held = known[np.minimum(np.searchsorted(known, nth[rows[later]]), len(known) - 1)] == nth[rows[later]]
            if held.sum() >= SAME_SHARE * larger:
                result[rows[later][held]] = True
    return result
