"""Columns of flow log values, as logged, to typed columns: what a value may be is said once, in `fields.py`, and enforced here.

Two ways with one outcome. `typed_columns` takes columns that Arrow already parsed by `parse_type` and raises `BadValues` if a single value
is outside its field's domain. `checked_columns` takes columns of text, finds each bad row and its reason, and types the good ones.
Absent values (`-` in text) are null in and null out. Addresses and words stay dictionary-encoded, so each distinct one is checked once.
"""

from __future__ import annotations

import socket

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.fields import BY_NAME, Address, Domain, Field, Number, OneOf, UnixTime

TEXT_TYPE = pa.dictionary(pa.int32(), pa.string())
UNIX_MILLISECONDS_FROM = 10**11
"""Times from here on are milliseconds: as seconds they would lie beyond the year 5138, as milliseconds they start in 1973."""
UNIX_SECONDS_BEFORE = 253_402_300_800
"""Seconds must lie before the year 10000, the end of Spark's and Delta's timestamps."""

SEEN_ADDRESSES = 250_000
"""How many well-formed addresses a worker remembers, so that each is checked about once; some 30 MB."""

BAD_NUMBER, BAD_ADDRESS, BAD_VALUE = "bad_number", "bad_address", "bad_value"

_UNSIGNED = ((2**8 - 1, pa.uint8()), (2**16 - 1, pa.uint16()), (2**32 - 1, pa.uint32()), (2**64 - 1, pa.uint64()))
_FINAL = {"STRING": TEXT_TYPE, "INT": pa.int32(), "BIGINT": pa.int64()}


class BadValues(Exception):
    """Some value is outside its field's domain; `checked_columns` says which."""


def parse_type(name: str) -> pa.DataType:
    """The Arrow type that a parser should read a field as: unsigned, so that a sign is an error, and as narrow as the domain allows."""
    domain = _domain(name)
    if isinstance(domain, Number):
        return next(kind for most, kind in _UNSIGNED if domain.high <= most)
    return pa.uint64() if isinstance(domain, UnixTime) else TEXT_TYPE


def column_type(field: Field) -> pa.DataType:
    """The Arrow type of a field in `records`."""
    return _FINAL[field.type]


def typed_columns(columns: pa.Table) -> pa.Table:
    """Columns named by field, of types `parse_type`, as typed columns; raises `BadValues` when any value is outside its domain."""
    try:
        return pa.table({name: _typed(name, _one_chunk(columns.column(name))) for name in columns.column_names})
    except pa.ArrowInvalid as error:
        raise BadValues from error


def checked_columns(columns: pa.Table) -> tuple[pa.Table, npt.NDArray[np.intp], list[str]]:
    """Columns of text as (typed columns of the good rows, indices of the bad rows, the reason of each).

    The reason is that of the row's first bad field in the format's order: bad_number (not a whole number, or outside the field's range),
    bad_address, or bad_value (not one of the field's words, or empty).
    """
    reasons = np.zeros(columns.num_rows, dtype=np.int8)
    codes = (None, BAD_NUMBER, BAD_ADDRESS, BAD_VALUE)
    parsed = {}
    for name in columns.column_names:
        text = _one_chunk(columns.column(name))
        parsed[name], bad, reason = _checked(name, text)
        reasons[bad & (reasons == 0)] = codes.index(reason)
    bad_rows = np.flatnonzero(reasons)
    table = pa.table(parsed)
    good = table.filter(pa.array(reasons == 0)) if len(bad_rows) else table
    return typed_columns(good), bad_rows, [str(codes[code]) for code in reasons[bad_rows]]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _domain(name: str) -> Domain | None:
    field = BY_NAME.get(name)
    return field.domain if field else None


def _typed(name: str, values: pa.Array) -> pa.Array:
    domain = _domain(name)
    if isinstance(domain, Number):
        numbers = values.cast(_FINAL[BY_NAME[name].type])
        # AWS writes no path as `-`; some Parquet deliveries as 0, which is no path either.
        return pc.if_else(pc.equal(numbers, 0), None, numbers) if name == "traffic-path" else numbers
    if isinstance(domain, UnixTime):
        return _unix_seconds(values)
    if _bad_words(domain, values.dictionary):
        raise BadValues
    return values


def _unix_seconds(values: pa.Array) -> pa.Array:
    latest = pc.max(values).as_py() or 0
    if latest >= UNIX_MILLISECONDS_FROM:
        values = pc.if_else(pc.greater_equal(values, UNIX_MILLISECONDS_FROM), pc.divide(values, 1000), values)
        if pc.max(values).as_py() >= UNIX_SECONDS_BEFORE:
            raise BadValues
    return values.cast(pa.int64())


def _checked(name: str, text: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_], str]:
    """A column of text as (values of type `parse_type`, null where bad; which rows are bad; why)."""
    domain = _domain(name)
    if isinstance(domain, Number | UnixTime):
        # Nineteen digits at most, so that the cast cannot overflow; more is out of every field's range.
        digits = pc.match_substring_regex(text, "^0*[0-9]{1,19}$")
        numbers = pc.if_else(digits, text, None).cast(pa.uint64())
        highest = domain.high if isinstance(domain, Number) else UNIX_SECONDS_BEFORE * 1000 - 1
        good = pc.and_kleene(digits, pc.less_equal(numbers, pa.scalar(highest, pa.uint64())))
        bad = _falses(good)
        return pc.if_else(pa.array(~bad), numbers, None).cast(parse_type(name)), bad, BAD_NUMBER
    words = text.dictionary_encode()
    wrong = _bad_words(domain, words.dictionary)
    bad = np.isin(_indices(words), wrong) if wrong else np.zeros(len(text), dtype=bool)
    if wrong:
        words = pc.if_else(pa.array(bad), None, text).dictionary_encode()
    return words, bad, BAD_ADDRESS if isinstance(domain, Address) else BAD_VALUE


def _falses(checked: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    """Rows that are false; null (an absent value) is not."""
    return ~np.asarray(pc.fill_null(checked, True))


def _indices(words: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    return np.asarray(pc.fill_null(words.indices, -1))


def _bad_words(domain: Domain | None, words: pa.Array) -> list[int]:
    """Indices of the dictionary entries that are outside the domain."""
    if isinstance(domain, OneOf):
        return [index for index, word in enumerate(words.to_pylist()) if word not in domain.words]
    if isinstance(domain, Address):
        return _bad_addresses(words.to_pylist())
    empty = pc.index(words, pa.scalar("", words.type)).as_py()
    return [] if empty < 0 else [empty]


def _bad_addresses(addresses: list[str]) -> list[int]:
    unseen = set(addresses) - _seen_addresses
    bad = {address for address in unseen if not _is_address(address)}
    if len(_seen_addresses) > SEEN_ADDRESSES:
        _seen_addresses.clear()
    _seen_addresses.update(unseen - bad)
    return [index for index, address in enumerate(addresses) if address in bad] if bad else []


def _is_address(text: str) -> bool:
    """Whether the C library reads it: four decimal octets without leading zeros, or RFC 4291 text without a zone."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


_seen_addresses: set[str] = set()
