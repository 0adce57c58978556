"""Observed rows of whole five-tuples to episodes: which rows count, and who initiated.

In: rows of `observed.OBSERVED`, all rows of a five-tuple together, and what is known from yesterday and from the rest of the day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, sort_by
from flowlog_udfs.episodes import Timeline, episodes
from flowlog_udfs.initiators import (
    CARRIED,
    EPHEMERAL,
    FAN_IN,
    HI,
    KNOWN_SERVER,
    LO,
    PORT_ORDER,
    UDP,
    WELL_KNOWN,
    Answers,
    Confidences,
    Evidence,
    by_flags,
    by_sole_sender,
    by_sole_sender_without_flags,
    is_tunnel,
)
from flowlog_udfs.observations import TRANSIT, choose
from flowlog_udfs.observed import Rows
from flowlog_udfs.services import EPHEMERAL_PORT, SIDE_A, WELL_KNOWN_PORT, PortRules
from flowlog_udfs.services import PORT_ORDER as LOWER_PORT


@dataclass(frozen=True)
class Knowledge:
    """What a partition must be told: evidence from yesterday and from the rest of the day. Hashes are sorted.

    `carried` holds keys of connections open at midnight with the end that initiated them; `servers` the ends (`end_hash`) proven to answer;
    `fan_in` the ends that many peers talked to and that answered.
    """

    carried: npt.NDArray[np.uint64]
    carried_initiator: Ints
    servers: npt.NDArray[np.uint64]
    fan_in: npt.NDArray[np.uint64]
    ports: PortRules
    confidences: Confidences
    idle_seconds: int = 350
    udp_idle_seconds: int = 180


@dataclass(frozen=True)
class Attributed:
    """A partition worked out: its rows sorted by episode, which of them count, and who initiated each episode."""

    rows: Rows
    groups: Groups
    counts: Flags
    answers: Answers
    evidence: Evidence
    shortfall: Ints


def attribute(table: pa.Table, known: Knowledge) -> Attributed:
    """Cut rows of `OBSERVED` into episodes, choose each direction's observation point, and say who initiated."""
    rows = Rows.of(table)
    idle = np.where(rows.protocol == UDP, known.udp_idle_seconds, known.idle_seconds)
    episode = episodes(Timeline(rows.key, rows.observer, rows.forward, rows.start, rows.end, rows.flags), idle)
    rows = replace(rows, episode=episode).take(sort_by(rows.key, episode, rows.observer, rows.start))
    groups = Groups.of(rows.key, rows.episode)
    # Overlapping subscriptions alone make no connection: their rows are accounted for as duplicates.
    rows = rows.take(np.flatnonzero(groups.spread(groups.any(~rows.only_evidence))))
    groups = Groups.of(rows.key, rows.episode)
    evidence = Evidence.of(
        groups,
        forward=rows.forward,
        flags=rows.flags,
        start=rows.start,
        end=rows.end,
        place=rows.observer,
        trusted_ack=rows.trusted_ack,
        transit=rows.role == TRANSIT,
    )
    countable = np.flatnonzero(~rows.only_evidence)
    chosen = choose(
        (groups.ids * 2 + rows.forward)[countable],
        rows.observer[countable],
        rows.role[countable],
        rows.packets[countable],
        rows.start[countable],
        rows.end[countable],
    )
    counts = np.zeros(groups.rows, dtype=bool)
    counts[countable] = chosen.counts
    shortfall = np.zeros(2 * len(groups), np.int64)
    shortfall[: len(chosen.shortfall)] = chosen.shortfall
    return Attributed(rows, groups, counts, _answers(rows, groups, evidence, known), evidence, shortfall.reshape(-1, 2).sum(axis=1))


def _answers(rows: Rows, groups: Groups, seen: Evidence, known: Knowledge) -> Answers:
    """The rules in their order, strongest first."""
    sure = known.confidences
    first = groups.starts
    protocol, lo_port, hi_port = rows.protocol[first], rows.lo_port[first], rows.hi_port[first]
    answers = Answers.unknown(len(groups))
    answers.close(is_tunnel(protocol, lo_port, hi_port))
    by_flags(answers, seen, protocol, sure)

    at = np.searchsorted(known.carried, rows.hashed[first])
    at = np.minimum(at, max(len(known.carried) - 1, 0))
    if len(known.carried):
        was_open = (known.carried[at] == rows.hashed[first]) & (rows.episode[first] == 1)
        answers.answer(was_open, known.carried_initiator[at], CARRIED, sure.flags)
    by_sole_sender(answers, seen, protocol, sure)

    lo_end, hi_end = rows.lo_end[first], rows.hi_end[first]
    _answer_by_end(answers, known.servers, lo_end, hi_end, KNOWN_SERVER, sure.by_basis[KNOWN_SERVER])
    verdict = known.ports.judge(lo_port, hi_port, protocol)
    initiator = np.where(verdict.responder == SIDE_A, HI, LO)
    for rule, basis in ((WELL_KNOWN_PORT, WELL_KNOWN), (EPHEMERAL_PORT, EPHEMERAL)):
        answers.answer(verdict.basis == rule, initiator, basis, sure.by_basis[basis])
    _answer_by_end(answers, known.fan_in, lo_end, hi_end, FAN_IN, sure.by_basis[FAN_IN])
    by_sole_sender_without_flags(answers, seen, sure)
    answers.answer(verdict.basis == LOWER_PORT, initiator, PORT_ORDER, sure.by_basis[PORT_ORDER])
    return answers


def _answer_by_end(
    answers: Answers,
    responders: npt.NDArray[np.uint64],
    lo_end: npt.NDArray[np.uint64],
    hi_end: npt.NDArray[np.uint64],
    basis: int,
    confidence: float,
) -> None:
    """The other end initiated where exactly one is a known responder."""
    lo_answers, hi_answers = np.isin(lo_end, responders), np.isin(hi_end, responders)
    answers.answer(lo_answers & ~hi_answers, HI, basis, confidence)
    answers.answer(hi_answers & ~lo_answers, LO, basis, confidence)
