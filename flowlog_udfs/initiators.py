"""Who initiated: the evidence of one episode, strongest first, with its basis and a confidence.

Flags beat everything; then what was carried over midnight; then that only one end ever sent; then what is known of ports. FIN and RST are
never evidence. Ends are `lo` and `hi`, the canonical order of the pair; an answer is which of them initiated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.tcp_flags import is_syn, is_syn_ack

LO, HI, UNKNOWN = 0, 1, -1
TCP, UDP, ICMP, ICMPV6, GRE, ESP = 6, 17, 1, 58, 47, 50
TUNNEL_PORTS = (4789, 6081)
"""VXLAN (RFC 7348) and Geneve (RFC 8926): both ends send to this port, and either may have been first."""

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


@dataclass(frozen=True)
class Confidences:
    """How often each basis is right. Those of port rules are measured (`docs/attribution.md`), and never above 0.9."""

    flags: float = 1.0
    contradicted_flags: float = 0.8
    sole_sender: float = 0.6
    icmp: float = 0.5
    by_basis: dict[int, float] = field(
        default_factory=lambda: {KNOWN_SERVER: 0.9, WELL_KNOWN: 0.9, EPHEMERAL: 0.8, FAN_IN: 0.8, PORT_ORDER: 0.55}
    )


@dataclass(frozen=True)
class Evidence:
    """What the rows of each episode show, one entry for each episode."""

    lo_sent: Flags
    hi_sent: Flags
    lo_syn: Flags
    hi_syn: Flags
    lo_syn_ack: Flags
    hi_syn_ack: Flags
    first_syn_is_lo: Flags
    has_flags: Flags
    lo_is_early: Flags
    hi_is_early: Flags
    only_transit: Flags

    @classmethod
    def of(
        cls, episodes: Groups, *, forward: Flags, flags: Ints, start: Ints, end: Ints, place: Ints, trusted_ack: Flags, transit: Flags
    ) -> Evidence:
        """Gather evidence over rows sorted by episode.

        `forward` rows were sent by `lo`. `place` is the observer. `trusted_ack` is false for formats that show every flag: there only SYN
        without ACK is evidence. `transit` rows were seen at a middlebox, which need not see both directions.
        """
        syn, syn_ack = is_syn(flags), is_syn_ack(flags) & trusted_ack
        never = np.iinfo(np.int64).max
        first_lo = episodes.min(np.where(syn & forward, start, never))
        first_hi = episodes.min(np.where(syn & ~forward, start, never))
        lo_early, hi_early = _a_window_earlier(episodes, forward, start, end, place)
        return cls(
            lo_sent=episodes.any(forward),
            hi_sent=episodes.any(~forward),
            lo_syn=episodes.any(syn & forward),
            hi_syn=episodes.any(syn & ~forward),
            lo_syn_ack=episodes.any(syn_ack & forward),
            hi_syn_ack=episodes.any(syn_ack & ~forward),
            first_syn_is_lo=first_lo < first_hi,
            has_flags=episodes.any(flags >= 0),
            lo_is_early=lo_early,
            hi_is_early=hi_early,
            only_transit=episodes.all(transit),
        )


@dataclass
class Answers:
    """Which end initiated (`LO`, `HI` or `UNKNOWN`), on what basis (index into `BASES`), and how sure."""

    initiator: Ints
    basis: Ints
    confidence: npt.NDArray[np.float64]
    unsolicited: Flags

    @property
    def is_open(self) -> Flags:
        """Episodes that no rule has answered or closed so far."""
        return (self.basis == NONE) & ~self.unsolicited & ~self._closed

    def __post_init__(self) -> None:
        """Start with no episode closed."""
        self._closed = np.zeros(len(self.basis), dtype=bool)

    @classmethod
    def unknown(cls, count: int) -> Answers:
        """No answer yet, for so many episodes."""
        return cls(np.full(count, UNKNOWN), np.full(count, NONE), np.zeros(count), np.zeros(count, dtype=bool))

    def answer(self, where: Flags, initiator: Ints | int, basis: int, confidence: float) -> None:
        """Answer the episodes that are open and in `where`."""
        chosen = where & self.is_open
        self.initiator[chosen] = np.broadcast_to(initiator, chosen.shape)[chosen]
        self.basis[chosen] = basis
        self.confidence[chosen] = confidence

    def close(self, where: Flags) -> None:
        """Leave the open episodes in `where` without an answer, for good."""
        self._closed |= where & self.is_open


def by_flags(answers: Answers, seen: Evidence, protocol: Ints, sure: Confidences) -> None:
    """SYN without ACK: its source initiates. SYN with ACK: its source responds, if the other end sent too or could not be seen to.

    A SYN-ACK without any packet from the other end, at an interface that would have logged it, is backscatter (RFC 4987 describes its
    source). Two ends that both answered, or both asked, contradict each other: the earlier SYN wins, at a lower confidence.
    """
    tcp = protocol == TCP
    both_asked = seen.lo_syn & seen.hi_syn
    both_answered = seen.lo_syn_ack & seen.hi_syn_ack
    lo_asks, hi_asks = tcp & seen.lo_syn & ~seen.hi_syn, tcp & seen.hi_syn & ~seen.lo_syn
    lo_answers = tcp & seen.lo_syn_ack & ~seen.hi_syn_ack & (seen.hi_sent | seen.only_transit)
    hi_answers = tcp & seen.hi_syn_ack & ~seen.lo_syn_ack & (seen.lo_sent | seen.only_transit)

    answers.close(tcp & both_answered & ~seen.lo_syn & ~seen.hi_syn)
    answers.answer(lo_asks & seen.hi_syn_ack & ~seen.lo_syn_ack, LO, BY_BOTH, sure.flags)
    answers.answer(hi_asks & seen.lo_syn_ack & ~seen.hi_syn_ack, HI, BY_BOTH, sure.flags)
    answers.answer(lo_asks & ~seen.lo_syn_ack, LO, BY_SYN, sure.flags)
    answers.answer(hi_asks & ~seen.hi_syn_ack, HI, BY_SYN, sure.flags)
    # What is left with a SYN contradicts itself.
    answers.answer(lo_asks, LO, BY_SYN, sure.contradicted_flags)
    answers.answer(hi_asks, HI, BY_SYN, sure.contradicted_flags)
    answers.answer(tcp & both_asked, np.where(seen.first_syn_is_lo, LO, HI), BY_SYN, sure.contradicted_flags)
    answers.answer(lo_answers, HI, BY_SYN_ACK, sure.flags)
    answers.answer(hi_answers, LO, BY_SYN_ACK, sure.flags)


def by_sole_sender(answers: Answers, seen: Evidence, protocol: Ints, sure: Confidences) -> None:
    """Only one end ever sent: it initiated, unless TCP's flags say that it opened nothing; then nobody asked for it.

    ICMP has no ports to go by: without a sole sender only a whole window's head start at one interface counts.
    """
    sole = seen.lo_sent ^ seen.hi_sent
    sender = np.where(seen.lo_sent, LO, HI)
    tcp, icmp = protocol == TCP, (protocol == ICMP) | (protocol == ICMPV6)
    answers.unsolicited |= answers.is_open & sole & tcp & seen.has_flags
    answers.answer(sole & icmp, sender, SOLE_SENDER, sure.icmp)
    answers.answer(sole & ~tcp, sender, SOLE_SENDER, sure.sole_sender)
    answers.answer(icmp & seen.lo_is_early, LO, SOLE_SENDER, sure.icmp)
    answers.answer(icmp & seen.hi_is_early, HI, SOLE_SENDER, sure.icmp)
    answers.close(icmp)


def by_sole_sender_without_flags(answers: Answers, seen: Evidence, sure: Confidences) -> None:
    """TCP of formats without flags: what only one end sent may be the answers alone, so ports are heard first."""
    answers.answer(seen.lo_sent ^ seen.hi_sent, np.where(seen.lo_sent, LO, HI), SOLE_SENDER, sure.sole_sender)


def is_tunnel(protocol: Ints, lo_port: Ints, hi_port: Ints) -> Flags:
    """Encapsulated traffic, in which the outer ends initiate nothing: VXLAN, Geneve, ESP (RFC 4303), GRE (RFC 2784)."""
    ported = np.isin(lo_port, TUNNEL_PORTS) | np.isin(hi_port, TUNNEL_PORTS)
    return ((protocol == UDP) & ported) | (protocol == ESP) | (protocol == GRE)


def _a_window_earlier(episodes: Groups, forward: Flags, start: Ints, end: Ints, place: Ints) -> tuple[Flags, Flags]:
    """Whether an end's first window was over, at one interface, before the other end's first began."""
    ids = episodes.ids
    order = np.lexsort((start, place, ids))
    at = Groups.of(ids[order], place[order])
    never, way = np.iinfo(np.int64).max, forward[order]
    begins = [at.min(np.where(side, start[order], never)) for side in (way, ~way)]
    # The end of the first window: that of the row that begins first.
    ends = [
        at.min(np.where(side & (start[order] == at.spread(begin)), end[order], never))
        for side, begin in zip((way, ~way), begins, strict=True)
    ]
    both = (begins[0] < never) & (begins[1] < never)
    per_episode = Groups.of(ids[order][at.starts])
    lo_first = per_episode.any(both & (ends[0] <= begins[1]) & (begins[0] < begins[1]))
    hi_first = per_episode.any(both & (ends[1] <= begins[0]) & (begins[1] < begins[0]))
    return lo_first & ~hi_first, hi_first & ~lo_first
