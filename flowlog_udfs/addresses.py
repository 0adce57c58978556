"""IPv4 and IPv6 addresses as numbers, and what can be asked of many at once: their scope, and the most specific prefix that holds them.

In: Arrow columns of address text, dictionary-encoded or not. Out: numpy columns, one entry a row. An address is a pair of unsigned 64-bit
words, the high and the low half of its 16 bytes; IPv4 stands as IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2), so that one pair orders and
compares both families. Text is read once for each distinct address; all else is arithmetic on whole columns.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs import columns
from flowlog_udfs.errors import UsageError

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

NO_MATCH = -1
_MAPPED = 0xFFFF << 32
_MAPPED_BYTES = b"\0" * 10 + b"\xff\xff"
_NAT64_HIGH = 0x0064_FF9B << 32
_END = 1 << 128


def packed(texts: pa.ChunkedArray | pa.Array) -> tuple[Words, Words]:
    """The high and the low word of each address; null gives 0, 0, which is also `::`, an address that no end can have.

    Raises `ValueError` naming a text that is no address: columns of `records` hold none.
    """
    places, distinct = columns.codes(texts)
    # One entry more than there are texts, all zero: code -1 is null.
    high, low = np.zeros((2, len(distinct) + 1), np.uint64)
    dotted, quads = _dotted_quads(distinct)
    low[:-1][dotted] = np.uint64(_MAPPED) | quads
    others = np.flatnonzero(~dotted)
    words = b"".join(map(_bytes, distinct.take(pa.array(others)).to_pylist()))
    high[others], low[others] = np.frombuffer(words, ">u8").reshape(-1, 2).T
    return high[places], low[places]


def _dotted_quads(texts: pa.Array) -> tuple[Flags, Words]:
    """Which texts are four decimal octets without leading zeros, and the numbers of those: all at once, a fifth of one after the other."""
    parts = pc.split_pattern(texts, ".")
    dotted = np.asarray(pc.fill_null(pc.equal(pc.list_value_length(parts), 4), False))
    octets = pc.list_flatten(parts.filter(pa.array(dotted)))
    try:
        numbers = np.asarray(octets.cast(pa.uint8())).astype(np.uint64).reshape(-1, 4)
    except pa.ArrowInvalid:
        return np.zeros(len(texts), bool), np.zeros(0, np.uint64)
    digits = (1 + (numbers > 9) + (numbers > 99)).sum(axis=1)
    canonical = digits + 3 == np.asarray(pc.binary_length(texts))[dotted]
    dotted[dotted] = canonical
    shifts = np.array([24, 16, 8, 0], np.uint64)
    return dotted, (numbers[canonical] << shifts).sum(axis=1, dtype=np.uint64)


def _bytes(text: str | None) -> bytes:
    if text is None:
        return bytes(16)
    try:
        return socket.inet_pton(socket.AF_INET6, text) if ":" in text else _MAPPED_BYTES + socket.inet_pton(socket.AF_INET, text)
    except OSError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 address in four decimal octets, or an IPv6 address (RFC 4291, section 2.2) without a zone."""
    try:
        return bool(_bytes(text))
    except ValueError:
        return False


def unpacked(high: Words, low: Words) -> pa.DictionaryArray:
    """Addresses as text, dictionary-encoded: IPv4 in dotted decimal, IPv6 in its shortest form (RFC 5952); 0, 0 as null."""
    pairs = np.empty(len(high), [("high", ">u8"), ("low", ">u8")])
    pairs["high"], pairs["low"] = high, low
    distinct, places = np.unique(pairs.view("S16"), return_inverse=True)
    # numpy drops the trailing zero bytes of an `S` value.
    texts = pa.array([_text(value.ljust(16, b"\0")) for value in distinct.tolist()], pa.string())
    return columns.texts(np.where((high == 0) & (low == 0), -1, places), texts)


def _text(value: bytes) -> str:
    if value.startswith(_MAPPED_BYTES):
        return socket.inet_ntop(socket.AF_INET, value[12:])
    return socket.inet_ntop(socket.AF_INET6, value)


def without_nat64(high: Words, low: Words) -> tuple[Words, Words]:
    """The IPv4 address inside each address of 64:ff9b::/96, the prefix of NAT64 (RFC 6052, section 2.1); others as they are."""
    translated = (high == np.uint64(_NAT64_HIGH)) & _begins(low, 32, 0)
    return np.where(translated, np.uint64(0), high), np.where(translated, low | np.uint64(_MAPPED), low)


def is_ipv4(high: Words, low: Words) -> Flags:
    """IPv4 addresses."""
    return _begins(low, 32, 0xFFFF) & _begins(high, 64, 0)


def is_private(high: Words, low: Words) -> Flags:
    """Addresses of no one's in particular: RFC 1918, shared address space 100.64.0.0/10 (RFC 6598), unique local fc00::/7 (RFC 4193)."""
    return _in_ipv4(high, low, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")) | _begins(high, 7, 0xFC >> 1)


def is_link_local(high: Words, low: Words) -> Flags:
    """Addresses that no router forwards: 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291)."""
    return _in_ipv4(high, low, ("169.254.0.0/16",)) | _begins(high, 10, 0xFE80 >> 6)


def is_multicast(high: Words, low: Words) -> Flags:
    """Groups of receivers: 224.0.0.0/4 (RFC 5771), ff00::/8 (RFC 4291), and the limited broadcast 255.255.255.255 (RFC 919)."""
    return _in_ipv4(high, low, ("224.0.0.0/4", "255.255.255.255/32")) | _begins(high, 8, 0xFF)


def is_nowhere(high: Words, low: Words) -> Flags:
    """Addresses that are no one's on any network: `::`, ::1, 0.0.0.0/8, 127.0.0.0/8, 240.0.0.0/4 but for its last (RFC 6890, RFC 4291)."""
    reserved = _in_ipv4(high, low, ("0.0.0.0/8", "127.0.0.0/8", "240.0.0.0/4")) & ~_begins(low, 64, _MAPPED + 0xFFFF_FFFF)
    return reserved | _begins(low, 63, 0) & _begins(high, 64, 0)


def _begins(words: Words, bits: int, value: int) -> Flags:
    """Words whose first bits are those of a value."""
    begins: Flags = words >> np.uint64(64 - bits) == np.uint64(value)
    return begins


def _in_ipv4(high: Words, low: Words, cidrs: Sequence[str]) -> Flags:
    found = np.zeros(len(high), bool)
    for network in map(ipaddress.IPv4Network, cidrs):
        found |= _begins(low, 32 + network.prefixlen, (_MAPPED | int(network.network_address)) >> (32 - network.prefixlen))
    return found & _begins(high, 64, 0)


@dataclass(frozen=True, eq=False)
class PrefixTable:
    """Prefixes with a value each, in groups that know nothing of each other; answers with the most specific prefix's value.

    The prefixes are flattened to segments that lie one after the other without a gap, so a look-up is one binary search, and a table of
    10,000 prefixes costs little more than one of 10. Numpy has no 128-bit integers: each half of an address is replaced by its rank among
    the segments' halves, and both ranks and the group's fit into one 64-bit key.
    """

    _groups: Codes
    _highs: Words
    _lows: Words
    _keys: Codes
    _values: Codes

    @classmethod
    def build(cls, prefixes: Iterable[tuple[str, int]]) -> PrefixTable:
        """A table of one group, number 0; values are 0 or more. Raises `UsageError` naming a text that is no CIDR or has two values."""
        return cls.build_grouped({0: prefixes})

    @classmethod
    def build_grouped(cls, prefixes: Mapping[int, Iterable[tuple[str, int]]]) -> PrefixTable:
        """A table of several groups, by their numbers; errors as for `build`."""
        segments = [(group, *segment) for group in sorted(prefixes) for segment in _flattened(prefixes[group])]
        groups = np.array(sorted(prefixes), np.int64)
        starts = np.array([[start >> 64, start & (1 << 64) - 1] for _, start, _ in segments], np.uint64).reshape(-1, 2)
        highs, lows = np.unique(starts[:, 0]), np.unique(starts[:, 1])
        table = cls(groups, highs, lows, np.empty(0, np.int64), np.array([value for *_, value in segments], np.int64))
        if len(groups) * len(highs) * (len(lows) + 2) >= 1 << 63:
            raise UsageError(f"{len(segments):,} address ranges in {len(groups):,} networks are more than one table can hold")
        keys = table._key(starts[:, 0], starts[:, 1], np.array([group for group, *_ in segments], np.int64))
        return cls(groups, highs, lows, keys, table._values)

    def match(self, high: Words, low: Words, group: Codes | None = None) -> Codes:
        """The value of the longest prefix that holds each address in its group (without `group`: in group 0); -1 where none does."""
        if not len(self._values):
            return np.full(len(high), NO_MATCH, np.int64)
        asked = np.zeros(len(high), np.int64) if group is None else group
        # Every group's segments begin at `::`, so there is always one at or before the key.
        found = self._values[np.maximum(np.searchsorted(self._keys, self._key(high, low, asked), side="right") - 1, 0)]
        return np.where(np.isin(asked, self._groups), found, NO_MATCH)

    def _key(self, high: Words, low: Words, group: Codes) -> Codes:
        """A number that orders (group, high, low) against the segments' starts as the three themselves would be ordered."""
        place = np.minimum(np.searchsorted(self._groups, group), len(self._groups) - 1)
        upper = np.searchsorted(self._highs, high, side="right") - 1
        # Above all starts with a smaller high half, whatever their low half, unless the high half is that of some start.
        lower = np.where(self._highs[upper] == high, np.searchsorted(self._lows, low, side="right"), len(self._lows) + 1)
        return (place * len(self._highs) + upper) * (len(self._lows) + 2) + lower


def _flattened(prefixes: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
    """Nested prefixes as (start, value) of segments in order, from 0 to the end of all addresses; `NO_MATCH` where no prefix is."""
    given: dict[tuple[int, int], int] = {}
    for cidr, value in prefixes:
        start, end = cidr_range(cidr)
        if given.setdefault((start, -end), value) != value:
            raise UsageError(f"{cidr} is given twice with different meanings; keep one")
    # A prefix of IPv6 as wide as ::/0 spans the mapped addresses too, but means IPv6 only.
    given.setdefault((_MAPPED, -(_MAPPED + (1 << 32))), NO_MATCH)
    segments = [(0, NO_MATCH)]
    holding = [(_END, NO_MATCH)]

    def open_at(start: int, value: int) -> None:
        if segments[-1][0] == start:
            segments.pop()
        if not segments or segments[-1][1] != value:
            segments.append((start, value))

    # In this order a prefix comes after all that hold it, and before all that it holds.
    for (start, minus_end), value in sorted(given.items()):
        while holding[-1][0] <= start:
            end, _ = holding.pop()
            open_at(end, holding[-1][1])
        open_at(start, value)
        holding.append((-minus_end, value))
    while len(holding) > 1:
        end, _ = holding.pop()
        if end < _END:
            open_at(end, holding[-1][1])
    return segments


def cidr_range(cidr: str) -> tuple[int, int]:
    """The first address of a CIDR, and the one after its last, as 128-bit numbers (IPv4 mapped); raises `UsageError` naming a bad one."""
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise UsageError(f"{cidr!r} is not a CIDR ({error}); write like 10.0.0.0/16 or 2001:db8::/32") from None
    first = int(network.network_address) | (_MAPPED if network.version == 4 else 0)
    return first, first + network.num_addresses
