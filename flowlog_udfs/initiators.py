"""Who initiated: the evidence of one episode, strongest first, with its basis and a confidence.

Flags beat everything; then what was carried over midnight; then that only one end ever sent; then what is known of ports. FIN and RST are
never evidence. Ends are `lo` and `hi`, the canonical order of the pair; an answer is which of them initiated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.observed import TRANSIT, Rows
from flowlog_udfs.protocols import TCP, is_icmp
from flowlog_udfs.tcp_flags import is_syn, is_syn_ack, mere_reset

LO, HI, UNKNOWN = 0, 1, -1

BASES = (
    "none",
    "syn",
    "syn-ack",
    "syn+syn-ack",
    "carried",
    "sole-sender",
    "known-server",
    "well-known-port",
    "ephemeral-port",
    "fan-in",
    "port-order",
)
NONE, BY_SYN, BY_SYN_ACK, BY_BOTH, CARRIED, SOLE_SENDER, KNOWN_SERVER, WELL_KNOWN, EPHEMERAL, FAN_IN, PORT_ORDER = range(len(BASES))
SHORTEST_WINDOW = 60
"""Seconds of the shortest aggregation interval: what starts later than that at one interface began later."""

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Confidences:
    """How often each basis is right. Those of port rules are measured (`jobs/measure_confidence.py`), and never above 0.9."""

    flags: float = 1.0
    contradicted_flags: float = 0.8
    sole_sender: float = 0.6
    icmp: float = 0.5
    by_basis: dict[int, float] = field(
        default_factory=lambda: {KNOWN_SERVER: 0.9, WELL_KNOWN: 0.9, EPHEMERAL: 0.9, FAN_IN: 0.8, PORT_ORDER: 0.55}
    )


@dataclass(frozen=True)
class Evidence:
    """What the rows of each episode show, one entry for each episode; pairs are (of `lo`, of `hi`).

    `syn` says that an end opened, by its SYN without ACK; `syn_ack` that it was answered, by the other end's SYN with ACK. `first` is the
    end that opened first at a point where that can be told, `early` the one with a whole window's head start. `answering` is of rows: those
    whose SYN with ACK counts.
    """

    sent: tuple[Flags, Flags]
    syn: tuple[Flags, Flags]
    syn_ack: tuple[Flags, Flags]
    first: Ints
    early: Ints
    has_flags: Flags
    observable: Flags
    start: Ints
    answering: Flags

    @classmethod
    def of(cls, rows: Rows, episodes: Groups, may_show_answers: Flags, shows_every_flag: Flags) -> Evidence:
        """Gather evidence over rows sorted by episode.

        `may_show_answers` and `shows_every_flag` tell for each flow log, by rank, that it is not known to capture rejected traffic only,
        and that it writes flags other than AWS's documented ones: there SYN and ACK may be two packets.
        """
        ways = (rows.forward, ~rows.forward)
        sent = tuple(episodes.any(way) for way in ways)
        # An interface that owns an end, or may, would have logged the other direction too; a middlebox need not see both.
        observable = episodes.any((rows.role != TRANSIT) & may_show_answers[rows.flow_log])
        flagged = rows.flags >= 0
        real = flagged & ~mere_reset(rows.flags)
        # Whether what came back makes a SYN-ACK of this direction an answer.
        answers_something = []
        for back in ways[::-1]:
            came_back = episodes.any(back)
            judged_by_flags = episodes.any(back & flagged)
            answers_something.append(np.where(came_back, ~judged_by_flags | episodes.any(back & real), ~observable))
        syn = is_syn(rows.flags)
        syn_ack = is_syn_ack(rows.flags) & ~shows_every_flag[rows.flow_log]
        counts = np.where(rows.forward, episodes.spread(answers_something[0]), episodes.spread(answers_something[1]))
        syn_ack &= counts.astype(bool)
        by_lo = (syn & rows.forward) | (syn_ack & ~rows.forward)
        by_hi = (syn & ~rows.forward) | (syn_ack & rows.forward)
        return cls(
            sent=(sent[0], sent[1]),
            syn=(episodes.any(syn & rows.forward), episodes.any(syn & ~rows.forward)),
            syn_ack=(episodes.any(syn_ack & ~rows.forward), episodes.any(syn_ack & rows.forward)),
            first=_first_to_claim(rows, episodes, by_lo, by_hi),
            early=_early(rows, episodes),
            has_flags=episodes.any(flagged),
            observable=observable,
            start=episodes.min(rows.start),
            answering=syn_ack,
        )

    def claims(self, end: int) -> Flags:
        """Episodes whose flags say that an end initiated."""
        return self.syn[end] | self.syn_ack[end]


@dataclass
class Answers:
    """Which end initiated (`LO`, `HI` or `UNKNOWN`), on what basis (index into `BASES`), and how sure."""

    initiator: Ints
    basis: Ints
    confidence: npt.NDArray[np.float64]
    unsolicited: Flags

    def __post_init__(self) -> None:
        """Start with no episode closed."""
        self._closed = np.zeros(len(self.basis), dtype=bool)

    @property
    def is_open(self) -> Flags:
        """Episodes that no rule has answered or closed so far."""
        return (self.basis == NONE) & ~self._closed

    @classmethod
    def unknown(cls, count: int) -> Answers:
        """No answer yet, for so many episodes."""
        return cls(np.full(count, UNKNOWN), np.full(count, NONE), np.zeros(count), np.zeros(count, dtype=bool))

    def answer(self, where: Flags, initiator: Ints | int, basis: Ints | int, confidence: npt.NDArray[np.float64] | float) -> None:
        """Answer the episodes that are open and in `where`."""
        chosen = where & self.is_open
        for column, value in ((self.initiator, initiator), (self.basis, basis), (self.confidence, confidence)):
            column[chosen] = np.broadcast_to(value, chosen.shape)[chosen]

    def close(self, where: Flags) -> None:
        """Leave the open episodes in `where` without an answer, for good."""
        self._closed |= where & self.is_open

    def nobody_asked(self, where: Flags) -> None:
        """Close the open episodes in `where` as unsolicited."""
        self.unsolicited |= where & self.is_open
        self.close(where)


def by_flags(answers: Answers, seen: Evidence, sure: Confidences) -> None:
    """SYN without ACK: its source initiates. SYN with ACK: its source responds, if the other end sent more than resets or was not seen.

    A SYN-ACK that answers nothing is backscatter (RFC 4987 describes its source). Ends that contradict each other: the one that opened
    earlier at one interface, at a lower confidence; nobody, where both only answered or where no interface can tell.
    """
    bases = [np.where(seen.syn[end] & seen.syn_ack[end], BY_BOTH, np.where(seen.syn[end], BY_SYN, BY_SYN_ACK)) for end in (LO, HI)]
    both = seen.claims(LO) & seen.claims(HI)
    answers.close(both & ~seen.syn[LO] & ~seen.syn[HI])
    for end in (LO, HI):
        answers.answer(both & (seen.first == end), end, bases[end], sure.contradicted_flags)
        answers.answer(seen.claims(end) & ~both, end, bases[end], sure.flags)
    answers.close(both)


def by_sole_sender(answers: Answers, seen: Evidence, protocol: Ints, port_server: Ints, sure: Confidences) -> None:
    """Only one end ever sent, though the other would have been seen: it initiated.

    Not so for TCP whose flags show that it opened nothing, nor without flags where ports make it the server (`port_server`): what it sent
    are answers, and nobody asked. ICMP has no ports to go by: else only a whole window's head start at one interface counts.
    """
    sole = (seen.sent[LO] ^ seen.sent[HI]) & seen.observable
    sender = np.where(seen.sent[LO], LO, HI)
    icmp = is_icmp(protocol)
    answers.nobody_asked(sole & (protocol == TCP) & (seen.has_flags | (port_server == sender)))
    answers.answer(sole, sender, SOLE_SENDER, np.where(icmp, sure.icmp, sure.sole_sender))
    answers.answer(icmp & (seen.early != UNKNOWN), seen.early, SOLE_SENDER, sure.icmp)
    answers.close(icmp)


def _per_point(rows: Rows, *chosen: Flags) -> tuple[Groups, list[Ints]]:
    """The points of capture of each episode, as groups of episodes, and the first start of the chosen rows at each; rows are in order."""
    points = Groups.of(rows.key, rows.episode, rows.observer, rows.flow_log)
    firsts = [points.min(np.where(wanted, rows.start, _NEVER)) for wanted in chosen]
    return Groups.of(rows.key[points.starts], rows.episode[points.starts]), firsts


def _first_to_claim(rows: Rows, episodes: Groups, by_lo: Flags, by_hi: Flags) -> Ints:
    """The end whose claim came first, at the first point that has both and saw them start apart; `UNKNOWN` without such a point."""
    result = np.full(len(episodes), UNKNOWN)
    doubted = episodes.any(by_lo) & episodes.any(by_hi)
    chosen = np.flatnonzero(episodes.spread(doubted))
    if len(chosen):
        few = rows.take(chosen)
        per_episode, (lo, hi) = _per_point(few, by_lo[chosen], by_hi[chosen])
        tells = (lo < _NEVER) & (hi < _NEVER) & (lo != hi)
        first = per_episode.min(np.where(tells, np.arange(len(lo)), len(lo)))
        told = np.append(np.where(lo < hi, LO, HI), UNKNOWN)
        result[doubted] = told[first]
    return result


def _early(rows: Rows, episodes: Groups) -> Ints:
    """For ICMP the end whose first packets lie at least `SHORTEST_WINDOW` before the other's, at some interface and at none the reverse."""
    result = np.full(len(episodes), UNKNOWN)
    icmp = is_icmp(rows.protocol[episodes.starts])
    chosen = np.flatnonzero(episodes.spread(icmp))
    if len(chosen):
        few = rows.take(chosen)
        per_episode, (lo, hi) = _per_point(few, few.forward, ~few.forward)
        both = (lo < _NEVER) & (hi < _NEVER)
        lead = np.where(both, hi, 0) - np.where(both, lo, 0)
        lo_leads, hi_leads = per_episode.any(lead >= SHORTEST_WINDOW), per_episode.any(lead <= -SHORTEST_WINDOW)
        result[icmp] = np.where(lo_leads & ~hi_leads, LO, np.where(hi_leads & ~lo_leads, HI, UNKNOWN))
    return result
