"""Stage 4a: legs of translations, and which of them are two sides of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .rows import End, Key, Row
from .world import RST, without_nat64

EPISODE = tuple[Key, int]


@dataclass
class Leg:
    """An episode as one translator's own rows show it; out is away from the inside (or from the translator's own end)."""

    episode: EPISODE
    near: End  # the inside, or the translator's own end
    far: End
    amounts: tuple[int, int, int, int]  # packets out, packets in, bytes out, bytes in
    flags: tuple[int | None, int | None]
    start: int
    end: int

    @property
    def remote(self) -> tuple[str, int | None, Any]:
        return without_nat64(str(self.far.address)), self.far.port, self.episode[0][3]

    @property
    def is_nat64(self) -> bool:
        return without_nat64(str(self.far.address)) != self.far.address


def find_legs(rows: Iterable[Row], near_of: Any) -> list[Leg]:
    groups: dict[EPISODE, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.key, row.episode].append(row)
    legs = []
    for episode, group in sorted(groups.items(), key=lambda item: (item[0][0][1].order, item[0][0][2].order, item[0][1])):
        near = near_of(episode, group)
        out = [row for row in group if row.source == near]
        back = [row for row in group if row.source != near]
        amounts = (*(sum(row.packets for row in way) for way in (out, back)), *(sum(row.bytes for row in way) for way in (out, back)))
        flags = tuple(_flags(way) for way in (out, back))
        far = episode[0][2] if near == episode[0][1] else episode[0][1]
        times = min(row.start for row in group), max(row.end for row in group)
        legs.append(Leg(episode, near, far, amounts, flags, *times))  # type: ignore[arg-type]
    return legs


def seen_once(rows: Iterable[Row]) -> list[Row]:
    """Rows in transit at one observer, each direction of an episode as it came in; as it went out where it was only seen so."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.key, row.episode, row.forward].append(row)
    return [row for group in groups.values() for row in group if row.own == "dst" or all(other.own != "dst" for other in group)]


def _flags(rows: Sequence[Row]) -> int | None:
    found = [row.flags for row in rows if row.flags is not None]
    result = 0
    for flags in found:
        result |= flags
    return result if found else None


def find_pairs(insides: Sequence[Leg], outsides: Sequence[Leg], config: Mapping[str, Any]) -> list[tuple[Leg, Leg, int, str]]:
    def compatible(one: Leg, other: Leg) -> bool:
        seconds = config["pairing_seconds"]
        close = abs(one.start - other.start) <= seconds and abs(one.end - other.end) <= seconds
        return close and one.remote == other.remote and one.far.port is not None and one.episode != other.episode

    def exact(one: Leg, other: Leg) -> bool:
        known_bytes = 2 if one.is_nat64 else 4
        return compatible(one, other) and one.amounts[:known_bytes] == other.amounts[:known_bytes] and one.flags == other.flags

    def near(one: Leg, other: Leg) -> bool:
        if not compatible(one, other):
            return False
        for way in (0, 1):
            packets = one.amounts[way] - other.amounts[way]
            size = abs(one.amounts[way + 2] - other.amounts[way + 2])
            flags = (one if packets > 0 else other).flags[way]
            if abs(packets) > 2 or (size > 60 * abs(packets) and not one.is_nat64) or (packets and not (flags or 0) & RST):
                return False
        return True

    found: list[tuple[Leg, Leg, int, str]] = []
    left, right = list(insides), list(outsides)
    for method, fits in (("exact", exact), ("near", near)):
        edges = [(one, other) for one in left for other in right if fits(one, other)]
        for one, other in edges:
            count = max(sum(edge[0] is one for edge in edges), sum(edge[1] is other for edge in edges))
            found.append((one, other, count, method if count == 1 or method == "near" else "alike"))
        left = [one for one in left if not any(edge[0] is one for edge in edges)]
        right = [other for other in right if not any(edge[1] is other for edge in edges)]
    return found
