"""Stage 2, `observations`: each byte once. Every record gets a bucket for the subnet totals and one for the connections."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .episodes import cut_episodes
from .rows import RECEIVER, SENDER, TRANSIT, UNKNOWN_SIDE, Key, Row
from .world import Known, within

BUCKETS = (
    "counted",
    "duplicate_delivery",
    "duplicate_subscription",
    "nat_leg",
    "transit_only",
    "no_side",
    "no_subnet",
    "nodata",
    "skipdata",
    "other_end",
)
DAY = 86_400
COUNTING = (SENDER, RECEIVER, UNKNOWN_SIDE, TRANSIT)
Stretch = tuple[int, int]
Direction = tuple[Key, int, bool]


def observations(
    rows: Sequence[Row], known: Known, config: Mapping[str, Any], formats: Mapping[str, Sequence[str]], midnight: int
) -> dict[Direction, tuple[int, int]]:
    """Fill `subnet_bucket`, `connection_bucket` and `episode`; return the shortfall (packets, bytes) of each direction of an episode.

    The first bucket that fits, in this order:
    1. nodata, skipdata: by log-status.
    2. duplicate_delivery: see `_redelivered`.
    3. duplicate_subscription: see `_overlapped`.
    4. nat_leg, transit_only: the row is in transit. nat_leg if a row of an owner (not in transit; a side may be unknown) of the same key
       and direction overlaps it, clocks allowed for ([start - tolerance, end + tolerance]); else transit_only.
    5. no_side: own side unknown, or the record has no ends and no flow-direction.
    6. no_subnet: subnet known neither from the row, nor its interface, nor the inventory. Only where the interface's subnet is unknown is
       the own shown address looked up in the ranges of the VPC's subnets.
    7. counted.
    Connections take 1 to 3 as they are; the rows that are chosen as observation points are counted, a row in transit that is not chosen is
    nat_leg if it is one, everything else is other_end. What has no ends is in no connection: bucket no_ends, which is no part of the fixed
    list and appears only where such records are.
    """
    for row in rows:
        row.subnet_bucket = {"NODATA": "nodata", "SKIPDATA": "skipdata"}.get(row.record.get("log_status"), "")
    for row in _redelivered(rows, config):
        row.subnet_bucket = row.subnet_bucket or "duplicate_delivery"
    for row in _overlapped(rows, formats, midnight):
        row.subnet_bucket = row.subnet_bucket or "duplicate_subscription"
    for row in rows:
        row.connection_bucket = row.subnet_bucket or ("" if row.has_ends else "no_ends")
    live = [row for row in rows if not row.subnet_bucket]
    _judge_transit([row for row in live if row.has_ends], config)
    for row in live:
        if not row.subnet_bucket and row.own == "unknown":
            way = row.record.get("flow_direction")
            row.own = {"egress": "src", "ingress": "dst"}.get(way, "unknown")
        if not row.subnet_bucket and row.own == "unknown":
            row.subnet_bucket = "no_side"
        if not row.subnet_bucket:
            row.place["subnet_id"] = row.place["subnet_id"] or _matched_subnet(row, known)
            row.subnet_bucket = "counted" if row.place["subnet_id"] else "no_subnet"

    evidence = [row for row in rows if row.has_ends and row.subnet_bucket not in ("nodata", "skipdata", "duplicate_delivery")]
    cut_episodes(evidence, config)
    _renumber(evidence)
    watch = _watches(rows, midnight)
    shortfall: dict[Direction, tuple[int, int]] = {}
    directions: dict[Direction, list[Row]] = defaultdict(list)
    for row in live:
        if row.has_ends:
            directions[row.key, row.episode, row.forward].append(row)
    for direction, group in directions.items():
        shortfall[direction] = _choose(group, watch, config)
    return shortfall


def _redelivered(rows: Sequence[Row], config: Mapping[str, Any]) -> list[Row]:
    """Rows delivered before in another object of the same flow log.

    Two objects of one flow log are the same delivery if the rows that they share (equal in every field; as multisets) are at least
    `redelivery_share` of the larger object's. Of such a pair the object with the greater key yields: its n-th copy of a row is
    redelivered if the other object holds n or more copies. Equal rows of one object, or of objects that differ otherwise, are real.
    """
    objects: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        objects[row.log, str(row.record.get("object_key"))].append(row)
    contents = {name: Counter(map(_content, group)) for name, group in objects.items()}
    found = []
    for name, group in sorted(objects.items()):
        earlier = [
            contents[other]
            for other in objects
            if other[0] == name[0]
            and other[1] < name[1]
            and (contents[other] & contents[name]).total() >= config["redelivery_share"] * max(len(group), len(objects[other]))
        ]
        copies: Counter[Any] = Counter()
        for row in group:
            copies[_content(row)] += 1
            if any(one[_content(row)] >= copies[_content(row)] for one in earlier):
                found.append(row)
    return found


def _content(row: Row) -> tuple[tuple[str, Any], ...]:
    def plain(value: Any) -> Any:
        return tuple(sorted(value.items())) if isinstance(value, dict) else value

    return tuple(sorted((name, plain(value)) for name, value in row.record.items() if name != "object_key" and value is not None))


def _overlapped(rows: Sequence[Row], formats: Mapping[str, Sequence[str]], midnight: int) -> list[Row]:
    """Rows of a flow log whose interface a flow log of higher rank covers at that time.

    Rank: more fields in the format first, then the smaller id. (Without a known format the columns with values are counted.) A flow log
    shows an action if any of its rows of the day has it; one that shows an action only covers rows of that action.
    The stretches that a flow log covers at an interface: maximal runs of its rows there, NODATA included, SKIPDATA not, in which the next
    start is at most two windows after the running maximum of end; a window is 60 s if none of these rows is longer, else 600 s. The day's
    midnights are bridged in the same way, for the row that covers the first minutes may be one of the day before.
    A row of a lower flow log is a duplicate if
    - its middle, (start + end) / 2, lies inside such a stretch (bounds included), or
    - a row of the higher flow log of the same interface, interface-level five-tuple and action overlaps it by more than half of the
      shorter of the two, each row taken as [start, max(end, start + 1)), or
    - such a row touches it (bounds included) and its middle lies between the first start and the last end of the higher flow log anywhere.
    The last two are for rows of windows of 60 s, which show their bounds, beside those of 600 s, which show first and last packet.
    """
    live = [row for row in rows if row.subnet_bucket in ("", "nodata") and not row.observer.startswith("@")]
    columns: dict[str, set[str]] = defaultdict(set)
    shows: dict[str, set[Any]] = defaultdict(set)
    at: dict[tuple[str, str], list[Row]] = defaultdict(list)
    alike: dict[Any, list[Row]] = defaultdict(list)
    for row in live:
        alike[row.observer, row.log, _shown(row)].append(row)
        columns[row.log] |= {name for name, value in row.record.items() if value is not None}
        shows[row.log].add(row.record.get("action"))
        at[row.observer, row.log].append(row)
    rank = {log: (-len(formats.get(log) or columns[log]), log) for log in columns}
    covered = {place: _stretches(group, midnight) for place, group in at.items()}
    life = {
        log: (
            min(start for (_, name), runs in covered.items() if name == log for start, _ in runs),
            max(end for (_, name), runs in covered.items() if name == log for _, end in runs),
        )
        for log in columns
    }

    def is_duplicate(row: Row, higher: str) -> bool:
        if rank[higher] >= rank[row.log] or row.record.get("action") not in shows[higher]:
            return False
        if any(2 * start <= row.start + row.end <= 2 * end for start, end in covered[row.observer, higher]):
            return True
        same = alike[row.observer, higher, _shown(row)]
        first, last = life[higher]
        if 2 * first <= row.start + row.end <= 2 * last and any(one.start <= row.end and row.start <= one.end for one in same):
            return True
        return any(_overlap_by_half(one, row) for one in same)

    logs_of: dict[str, set[str]] = defaultdict(set)
    for observer, log in at:
        logs_of[observer].add(log)
    return [row for row in live if not row.subnet_bucket and any(is_duplicate(row, higher) for higher in logs_of[row.observer])]


def _stretches(rows: Sequence[Row], midnight: int) -> list[Stretch]:
    window = 60 if all(row.end - row.start <= 60 for row in rows) else 600
    runs: list[Stretch] = []
    for row in sorted(rows, key=lambda row: (row.start, row.end)):
        if runs and row.start - runs[-1][1] <= 2 * window:
            runs[-1] = (runs[-1][0], max(runs[-1][1], row.end))
        else:
            runs.append((row.start, row.end))
    if runs and runs[0][0] <= midnight + 2 * window:
        runs[0] = (min(runs[0][0], midnight), runs[0][1])
    if runs and runs[-1][1] >= midnight + DAY - 2 * window:
        runs[-1] = (runs[-1][0], max(runs[-1][1], midnight + DAY + 1200))
    return runs


def _shown(row: Row) -> tuple[Any, ...]:
    return tuple(row.record.get(name) for name in ("srcaddr", "dstaddr", "srcport", "dstport", "protocol", "action"))


def _overlap_by_half(one: Row, other: Row) -> bool:
    spans = [(row.start, max(row.end, row.start + 1)) for row in (one, other)]
    common = min(span[1] for span in spans) - max(span[0] for span in spans)
    return common > 0 and 2 * common > min(span[1] - span[0] for span in spans)


def _judge_transit(rows: Sequence[Row], config: Mapping[str, Any]) -> None:
    tolerance = config["clock_tolerance"]
    owners: dict[tuple[Key, bool], list[Row]] = defaultdict(list)
    for row in rows:
        if row.role != TRANSIT:
            owners[row.key, row.forward].append(row)
    for row in rows:
        if row.role == TRANSIT:
            near = any(other.start <= row.end + tolerance and row.start <= other.end + tolerance for other in owners[row.key, row.forward])
            row.subnet_bucket = "nat_leg" if near else "transit_only"


def _matched_subnet(row: Row, known: Known) -> str | None:
    """The one subnet of the row's VPC (of all subnets where the VPC is unknown) that holds the own shown address; None if not exactly
    one."""
    if row.shown_local is None:
        return None
    vpc = row.place["vpc_id"]
    fits = [name for name, subnet in known.subnets.items() if vpc in (None, subnet["vpc_id"]) and within(row.shown_local, subnet["cidrs"])]
    return fits[0] if len(fits) == 1 else None


def _renumber(evidence: Sequence[Row]) -> None:
    """Number the episodes of a key anew, those that consist of overlapping flow logs' rows alone left out (0)."""
    real: dict[Key, set[int]] = defaultdict(set)
    for row in evidence:
        if row.subnet_bucket != "duplicate_subscription":
            real[row.key].add(row.episode)
    for row in evidence:
        numbers = sorted(real[row.key])
        row.episode = numbers.index(row.episode) + 1 if row.episode in numbers else 0


def _watches(rows: Sequence[Row], midnight: int) -> dict[str, list[Stretch]]:
    """When each observer was logged at all, by any flow log."""
    at: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.subnet_bucket not in ("skipdata", "duplicate_delivery"):
            at[row.observer].append(row)
    return {observer: _stretches(group, midnight) for observer, group in at.items()}


def _choose(rows: Sequence[Row], watch: Mapping[str, list[Stretch]], config: Mapping[str, Any]) -> tuple[int, int]:
    """Choose the rows of one direction of one episode that count; the rest is other_end or nat_leg.

    A view is a role at an observer; in transit the rows that come in and those that go out are two views, for a middlebox that translates
    nothing logs each packet twice. The preferred view is the sender's, then the receiver's, then one of unknown side, then one in transit
    (then more packets, then the observer's name, then incoming rows). Of all views the one with most packets is used instead if it has
    more than `shortfall_packets` and more than `shortfall_share` more; this compares the whole episode, so that an observer who was
    logged for a part of the time only loses to one who saw all of it, whatever their clocks. All rows of the view in use count.
    The other views, in the same order, fill holes: times at which every view before them was not logged at all (its interface has no row of
    any flow or status; stretches as in `_overlapped`, over all flow logs). A hole counts only if the view has a row in it further than the
    clock tolerance from the logged stretches beside it; then all its rows whose middle lies in the hole count.
    Shortfall: what the view in use has more than the preferred one while that was logged (clocks allowed for).
    """
    views: dict[tuple[int, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        views[COUNTING.index(row.role), row.observer, row.direction if row.role == TRANSIT else ""].append(row)

    def packets(view: tuple[int, str, str]) -> int:
        return sum(row.packets for row in views[view])

    preferred = min(views, key=lambda view: (view[0], -packets(view), *view[1:]))
    most = min(views, key=lambda view: (-packets(view), *view))
    more = packets(most) - packets(preferred)
    used = most if more > config["shortfall_packets"] and more > config["shortfall_share"] * packets(preferred) else preferred
    order = [used, *sorted(views.keys() - {used}, key=lambda view: (view[0], -packets(view), *view[1:]))]
    tolerance = config["clock_tolerance"]
    for place, view in enumerate(order):
        fills = [_fills(views[view], watch[before[1]], tolerance) for before in order[:place]]
        for row in views[view]:
            if all(row.number in fill for fill in fills):
                row.connection_bucket = "counted"
            else:
                row.connection_bucket = "nat_leg" if row.subnet_bucket == "nat_leg" else "other_end"
    if used == preferred:
        return 0, 0
    seen = [
        row
        for row in views[used]
        if any(2 * (start - tolerance) <= row.start + row.end <= 2 * (end + tolerance) for start, end in watch[preferred[1]])
    ]
    lacking = (
        sum(row.packets for row in seen) - packets(preferred),
        sum(row.bytes for row in seen) - sum(row.bytes for row in views[preferred]),
    )
    return max(0, lacking[0]), max(0, lacking[1])


def _fills(rows: Sequence[Row], logged: Sequence[Stretch], tolerance: int) -> set[int]:
    holes: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        middle = (row.start + row.end) / 2
        if not any(start <= middle <= end for start, end in logged):
            holes[sum(end < middle for _, end in logged)].append(row)
    far = [
        hole
        for hole, found in holes.items()
        if any(not any(start - tolerance <= (row.start + row.end) / 2 <= end + tolerance for start, end in logged) for row in found)
    ]
    return {row.number for hole in far for row in holes[hole]}
