"""Observed rows of whole five-tuples to episodes: which rows count, and who initiated.

In: rows of `observed.OBSERVED`, all rows of a five-tuple together, and what is known from yesterday and from the rest of the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, is_among, mixed
from flowlog_udfs.episodes import episodes
from flowlog_udfs.hidden import unveiled
from flowlog_udfs.initiators import (
    CARRIED,
    EPHEMERAL,
    FAN_IN,
    HI,
    KNOWN_SERVER,
    LO,
    PORT_ORDER,
    UNKNOWN,
    WELL_KNOWN,
    Answers,
    Confidences,
    Evidence,
    by_flags,
    by_sole_sender,
)
from flowlog_udfs.interfaces import Interface
from flowlog_udfs.observations import Watch, choose
from flowlog_udfs.observed import UNKNOWN_SIDE, Rows
from flowlog_udfs.overlap import at_the_edges
from flowlog_udfs.owners import Owners
from flowlog_udfs.protocols import UDP, is_tunnel
from flowlog_udfs.services import EPHEMERAL_PORT, SIDE_A, WELL_KNOWN_PORT, PortRules
from flowlog_udfs.services import PORT_ORDER as LOWER_PORT
from flowlog_udfs.sorting import sort_by

Hashes = npt.NDArray[np.uint64]
CARRY_SECONDS = 720
"""A connection is carried over midnight if its last window is so near before it, and its first one so near after it."""


def _no_hashes() -> Hashes:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Carried:
    """Connections open at yesterday's midnight, sorted by the hash of their five-tuple: who initiated, how sure that was, their state."""

    key: Hashes = field(default_factory=_no_hashes)
    lo_initiated: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))
    confidence: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    state: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def find(self, keys: Hashes) -> Ints:
        """The place of each five-tuple; -1 where it was not open."""
        if not len(self.key):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[at] == keys, at, -1)


@dataclass(frozen=True)
class Knowledge:
    """What a partition must be told: the day's interfaces and flow logs, evidence from yesterday and from the rest of the day.

    `servers` are ends (hash of network, address and port) proven to answer, `fan_in` ends (the same with the protocol) that several peers
    talked to, `balanced` clients' ends that a network load balancer was seen to serve. `may_show_answers`, `shows_every_flag` and `lives`
    are of flow logs, by rank. `owners` knows addresses of interfaces that logged nothing, too.
    """

    interfaces: Mapping[str, Interface]
    may_show_answers: Flags
    shows_every_flag: Flags
    lives: Ints
    midnight: int
    ports: PortRules
    confidences: Confidences = field(default_factory=Confidences)
    carried: Carried = field(default_factory=Carried)
    servers: Hashes = field(default_factory=_no_hashes)
    fan_in: Hashes = field(default_factory=_no_hashes)
    balanced: Hashes = field(default_factory=_no_hashes)
    owners: Owners = field(default_factory=dict)
    idle_seconds: int = 350
    udp_idle_seconds: int = 180


@dataclass(frozen=True)
class Attributed:
    """A partition worked out: its rows sorted by episode, which of them count, and who initiated each episode.

    `alone` are rows of overlapping subscriptions without any other row of their five-tuple: they are in no episode.
    """

    rows: Rows
    groups: Groups
    counts: Flags
    answers: Answers
    evidence: Evidence
    was_open: Ints
    shortfall_packets: Ints
    shortfall_bytes: Ints
    alone: Rows


def attribute(table: pa.Table, known: Knowledge) -> Attributed:
    """Cut rows of `OBSERVED` into episodes, choose each direction's observation point, and say who initiated."""
    rows = unveiled(Rows.of(table)).in_order()
    rows = replace(rows, duplicate=at_the_edges(rows, known.lives))
    idle = np.where(rows.protocol == UDP, known.udp_idle_seconds, known.idle_seconds)
    rows = replace(rows, episode=episodes(rows, idle))
    # In order within each five-tuple already: only its episodes are to be brought together.
    rows = rows.take(sort_by(rows.key, rows.episode))
    groups = Groups.of(rows.key, rows.episode)
    # Overlapping subscriptions alone make no connection: their rows are accounted for as duplicates.
    real = groups.spread(groups.any(~rows.duplicate))
    alone = rows.take(np.flatnonzero(~real))
    rows = _renumbered(rows.take(np.flatnonzero(real)))
    groups = Groups.of(rows.key, rows.episode)
    evidence = Evidence.of(rows, groups, known.may_show_answers, known.shows_every_flag)
    watch = Watch.of([known.interfaces[name].watched for name in rows.observers.to_pylist()])
    countable = np.flatnonzero(~rows.duplicate)
    chosen = choose(rows.take(countable), (groups.ids * 2 + rows.forward)[countable], watch)
    counts = np.zeros(rows.count, dtype=bool)
    counts[countable] = chosen.counts
    lacking = [np.zeros(2 * len(groups), np.int64) for _ in range(2)]
    for total, found in zip(lacking, (chosen.shortfall_packets, chosen.shortfall_bytes), strict=True):
        total[: len(found)] = found
    was_open = _was_open(rows, groups, evidence, known)
    answers = _answers(rows, groups, evidence, was_open, known)
    packets, octets = (total.reshape(-1, 2).sum(axis=1) for total in lacking)
    return Attributed(rows, groups, counts, answers, evidence, was_open, packets, octets, alone)


def _renumbered(rows: Rows) -> Rows:
    """Episodes of each five-tuple numbered from 1 without a gap."""
    groups = Groups.of(rows.key, rows.episode)
    keys = Groups.of(rows.key[groups.starts])
    number = np.arange(len(groups)) - keys.spread(keys.starts) + 1
    return replace(rows, episode=groups.spread(number))


def _was_open(rows: Rows, groups: Groups, seen: Evidence, known: Knowledge) -> Ints:
    """The place in `known.carried` of episodes that were open at midnight; -1 for the others."""
    place = known.carried.find(rows.hashed[groups.starts])
    near = (rows.episode[groups.starts] == 1) & (seen.start < known.midnight + CARRY_SECONDS)
    return np.where(near, place, -1)


def _answers(rows: Rows, groups: Groups, seen: Evidence, was_open: Ints, known: Knowledge) -> Answers:
    """The rules in their order, strongest first."""
    sure = known.confidences
    first = groups.starts
    protocol, lo_port, hi_port = rows.protocol[first], rows.lo_port[first], rows.hi_port[first]
    lo_end, hi_end = rows.lo_end[first], rows.hi_end[first]
    itself = (rows.lo[first] == rows.hi[first]) & (lo_port == hi_port)
    answers = Answers.unknown(len(groups))
    answers.close(is_tunnel(protocol, lo_port, hi_port))
    by_flags(answers, seen, sure)
    if len(known.carried.key):
        lo_initiated = np.where(known.carried.lo_initiated[was_open], LO, HI)
        answers.answer(was_open >= 0, lo_initiated, CARRIED, known.carried.confidence[was_open])

    is_proxy = np.array([known.interfaces[name].is_proxy for name in rows.observers.to_pylist()], dtype=bool)
    at_proxy = is_proxy[rows.observer] & ~rows.transit & (rows.side != UNKNOWN_SIDE)
    wide = [groups.any(at_proxy & (rows.local_is_lo == is_lo)) for is_lo in (True, False)]
    verdict = known.ports.judge(np.maximum(lo_port, 0), np.maximum(hi_port, 0), protocol, *wide)
    server = np.where(verdict.responder == SIDE_A, LO, HI)
    by_sole_sender(answers, seen, protocol, np.where(verdict.basis == WELL_KNOWN_PORT, server, UNKNOWN), sure)
    _answer_by_end(answers, known.servers, lo_end, hi_end, KNOWN_SERVER, sure.by_basis[KNOWN_SERVER])
    answers.close((lo_port == hi_port) | (lo_port < 0) | (hi_port < 0))
    for rule, basis in ((WELL_KNOWN_PORT, WELL_KNOWN), (EPHEMERAL_PORT, EPHEMERAL)):
        answers.answer(verdict.basis == rule, LO + HI - server, basis, sure.by_basis[basis])
    lo_visited, hi_visited = mixed(lo_end, protocol), mixed(hi_end, protocol)
    _answer_by_end(answers, known.fan_in, lo_visited, hi_visited, FAN_IN, sure.by_basis[FAN_IN])
    answers.answer(verdict.basis == LOWER_PORT, LO + HI - server, PORT_ORDER, sure.by_basis[PORT_ORDER])
    # An end that talks to itself is both ends: all that it sent stands on one side.
    answers.initiator[itself & (answers.initiator == HI)] = LO
    return answers


def _answer_by_end(answers: Answers, responders: Hashes, lo_end: Hashes, hi_end: Hashes, basis: int, confidence: float) -> None:
    """The other end initiated where exactly one is a known responder."""
    lo_answers, hi_answers = is_among(lo_end, responders), is_among(hi_end, responders)
    answers.answer(lo_answers & ~hi_answers, HI, basis, confidence)
    answers.answer(hi_answers & ~lo_answers, LO, basis, confidence)
