"""Stage 3b: what became of an episode: late rejects, verdict, state, attempts, and who closed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .initiator import SYN_ACK, Answer, Knowledge, other_way_observable
from .rows import RECEIVER, SENDER, TRANSIT, UNKNOWN_SIDE, End, Row
from .world import FIN, RST, SYN, Known

NEAREST = {RECEIVER: 0, TRANSIT: 1, UNKNOWN_SIDE: 2, SENDER: 2}
VERDICT_BY = ("receiver", "transit", "sender")


def mark_late(rows: Sequence[Row]) -> None:
    """A late reject: a REJECT row that starts no earlier than an ACCEPT row with FIN or RST of the same episode at the same observer.

    Its packets stand in the rejected columns; action, verdict, state, first_start and last_end are made without it.
    """
    closed: dict[str, int] = {}
    for row in rows:
        if not row.rejected and row.flags is not None and row.flags & (FIN | RST):
            closed[row.observer] = min(closed.get(row.observer, row.start), row.start)
    for row in rows:
        row.late = row.rejected and row.start >= closed.get(row.observer, row.start + 1)


def verdict_of(rows: Sequence[Row], known: Known) -> tuple[dict[str, int], dict[str, Any]]:
    """Packets and bytes of one direction by verdict, whether anything was accepted or rejected in time, and who says so.

    The amounts are those of the counted rows, each by its own action. The judge is the observer nearest the receiver: a receiver's
    interface, else one in transit, else the sender's (or one of unknown side); of several the one with most packets, then the smaller
    name. Late rejects are no judgement. If the judge has rows that were not counted, what they say was rejected is taken out of what the
    counted rows accepted: all of it if the judge has no ACCEPT row, could have shown one (its flow log is not said to show REJECT only)
    and has no counted row; else as much as the judge rejected, at most what there is. With no packet left nothing was accepted.
    """
    counted = [row for row in rows if row.connection_bucket == "counted"]
    judging = [row for row in rows if not row.late]
    nearest = min((NEAREST[row.role] for row in judging), default=None)
    judge = None
    if nearest is not None:
        packets: Counter[str] = Counter()
        for row in judging:
            if NEAREST[row.role] == nearest:
                packets[row.observer] += row.packets
        judge = min(packets, key=lambda observer: (-packets[observer], observer))
    says = [row for row in judging if row.observer == judge and NEAREST[row.role] == nearest and row.connection_bucket != "counted"]
    says_counted = any(row.observer == judge and NEAREST[row.role] == nearest for row in counted)
    shows_accept = any(known.traffic.get(row.log) != "REJECT" for row in says)
    all_of_it = bool(says) and all(row.rejected for row in says) and shows_accept and not says_counted
    volume = {}
    for name, amount in (("bytes", lambda row: row.bytes), ("packets", lambda row: row.packets)):
        accepted = sum(amount(row) for row in counted if not row.rejected)
        rejected = sum(amount(row) for row in counted if row.rejected)
        moved = accepted if all_of_it else min(accepted, sum(amount(row) for row in says if row.rejected))
        volume[name] = accepted - moved
        volume[f"rejected_{name}"] = rejected + moved
    in_time = [row for row in counted if not row.late]
    none_left = says and not volume["packets"] and any(row.packets for row in counted if not row.rejected)
    some_accepted = any(not row.rejected for row in in_time) and not all_of_it and not none_left
    some_rejected = any(row.rejected for row in in_time) or any(row.rejected for row in says)
    by = VERDICT_BY[nearest] if nearest is not None else None
    return volume, {"accepted": some_accepted, "rejected": some_rejected, "by": by}


def state_of(
    group: Sequence[Row],
    answer: Answer,
    first: End,
    second: End,
    passed: Mapping[str, bool],
    refused: Mapping[str, bool],
    claims: Any,
    knowledge: Knowledge,
) -> str:
    """The first that holds:

    unsolicited      the initiator's rules said so.
    rejected         nothing was accepted in either direction.
    refused_by_host  TCP: a SYN of the initiator, and all rows with flags that the responder sent have RST and none SYN-ACK.
    established      accepted both ways; or an accepted SYN-ACK of the responder that counts as evidence.
    partial          accepted one way, and the other could not be observed.
    unanswered       accepted one way.
    A carried connection seen one way only keeps yesterday's state.
    """
    if answer.unsolicited:
        return "unsolicited"
    if not any(passed.values()):
        return "rejected"
    answers = [row.flags for row in group if row.source == second and not row.late and first != second and row.flags is not None]
    asked = any(row.source == first and row.flags is not None and row.flags & SYN_ACK == SYN for row in group)
    resets = all(flags & RST and flags & SYN_ACK != SYN_ACK for flags in answers)
    if asked and answers and resets and passed["received"]:
        return "refused_by_host"
    if all(passed.values()) or any(not row.rejected for row in claims[first]["syn-ack"]):
        return "established"
    if len({row.source for row in group}) == 1 and not other_way_observable(group, knowledge.known):
        return "partial"
    return "unanswered"


def at_one_point(rows: Any) -> int:
    """The most rows that one point (observer and flow log) has."""
    return max(Counter((row.observer, row.log) for row in rows).values(), default=0)


def closed_by(group: Sequence[Row], first: End, second: End) -> str | None:
    """The end whose first FIN lies in an earlier window than the other's first FIN at the same point: ended by its start, and started at
    least 30 s before. Points that disagree: None. FINs of both ends, in one window: None. Without FINs of both: `reset` if an accepted row
    has RST, else None."""
    found = set()
    both = False
    for point in {(row.observer, row.log) for row in group}:
        fins = {
            end: min(
                (
                    (row.start, row.end)
                    for row in group
                    if (row.observer, row.log) == point and row.source == end and (row.flags or 0) & FIN
                ),
                default=None,
            )
            for end in (first, second)
        }
        one, other = fins[first], fins[second]
        if one and other:
            both = True
            if one[1] <= other[0] and one[0] <= other[0] - 30:
                found.add("initiator")
            if other[1] <= one[0] and other[0] <= one[0] - 30:
                found.add("responder")
    if len(found) == 1:
        return found.pop()
    if not both and any((row.flags or 0) & RST and not row.rejected for row in group):
        return "reset"
    return None
