"""Connections that a rule is about, in one row for each subject and peer.

In: columns `READ` of table `connections`. Out: rows of `gathering.MATCHED`.
A connection is judged by who initiated it, so that a reply is never a violation: rows whose initiator is not known, or not sure enough,
accuse nobody. Tunnels are outside all rules, and so is what was let through to a NAT gateway itself, where nothing sits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.columns import Flags, Groups, Ints, codes, equals, joined, numbers, shared_codes, texts
from flowlog_udfs.fields import REJECT
from flowlog_udfs.policy.gathering import EXAMPLE_COLUMNS, MATCHED, cast
from flowlog_udfs.policy.model import ANY, INTERNET, OWN, REACHED, Connections, FirstSeen, Policy, Rule
from flowlog_udfs.policy.segments import ENDS, INTERNET_SCOPES, OWN_SCOPES, Segments, allowed, in_scopes, on_ports, waived, within
from flowlog_udfs.sorting import sort_by

READ = (
    *(f"{end}_{name}" for end in ENDS for name in ("addr", "port", "account_id", "vpc_id", "subnet_id", "scope")),
    *("initiator_kind", "protocol", "bytes_sent", "bytes_received", "first_start", "last_end", "action", "verdict_by", "state"),
    *("basis", "confidence", "nat_id", "nat_leg", "traffic_class", "encryption_status", "reject_reason", "connection_id"),
    "responder_interface_id",
)
"""The columns of `connections` that rules look at."""
PEER_SIGN = " ↔ "
"""Between the segment and the peer in the subject of what a `FirstSeen` rule is about."""
ANSWERED = ("established", "partial", "refused_by_host")
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}


@dataclass(frozen=True)
class Judge:
    """A policy ready for a day; `nats` are the interfaces of NAT gateways and the VPCs of regional ones (`presence.nat_gateways`)."""

    policy: Policy
    segments: Segments
    day: date
    nats: frozenset[str] = frozenset()

    def numbered(self, kind: type) -> Iterator[tuple[int, Rule]]:
        """The enabled rules of a kind with their places in the policy."""
        return ((number, rule) for number, rule in enumerate(self.policy.rules) if rule.enabled and isinstance(rule.what, kind))

    def sure(self, connections: pa.Table) -> Flags:
        """Connections whose initiator is known well enough to be judged by."""
        confidence = np.asarray(pc.fill_null(connections.column("confidence"), 0.0))
        outside = equals(connections.column("basis"), "none") | np.asarray(connections.column("traffic_class").is_valid())
        return (confidence >= self.policy.least_confidence) & ~outside

    def reached_nat(self, connections: pa.Table) -> Flags:
        """Connections let through to a NAT gateway's own end; a regional one's is an own public address that no interface has.

        In transit at the gateway its address stands for a remote end that the format hides.
        """

        def stands_at(name: str) -> Flags:
            code, words = codes(connections.column(name))
            return np.array([*(word in self.nats for word in words.to_pylist()), False], dtype=bool)[code]

        nowhere = np.asarray(connections.column("responder_interface_id").is_null())
        is_regional = nowhere & in_scopes(connections, "responder", ("own-public",)) & stands_at("responder_vpc_id")
        not_there = equals(connections.column("action"), REJECT) | equals(connections.column("verdict_by"), "transit")
        return (is_regional | stands_at("responder_interface_id")) & ~not_there


def matches(connections: pa.Table, judge: Judge) -> pa.Table:
    """Rows of `MATCHED` for a batch of connections: every rule about connections, and the external peers of sensitive segments."""
    sure = judge.sure(connections) & ~judge.reached_nat(connections)
    sides = (judge.segments.holding(connections, ENDS[0]), judge.segments.holding(connections, ENDS[1]))
    found = [MATCHED.empty_table()]
    for number, rule in judge.numbered(Connections):
        assert isinstance(rule.what, Connections)
        found.append(
            _matched(connections, np.flatnonzero(sure & _is_about(connections, rule.what, sides, judge)), number, rule.what, sides, judge)
        )
    for number, _ in judge.numbered(FirstSeen):
        rows = np.flatnonzero(sure & _is_external_peer(connections, sides, judge))
        found.append(_matched(connections, rows, number, Connections(subject="peer"), sides, judge))
    return joined(found)


def _is_about(connections: pa.Table, what: Connections, sides: tuple[Ints, Ints], judge: Judge) -> Flags:
    result = on_ports(connections, what.ports)
    for end, wanted in zip(ENDS, (what.source, what.target), strict=True):
        if wanted != ANY:
            result &= in_scopes(connections, end, INTERNET_SCOPES if wanted == INTERNET else OWN_SCOPES)
    if what.states:
        result &= _in_states(connections, what.states)
    if what.action:
        result &= equals(connections.column("action"), what.action)
    if what.reject_reason:
        result &= equals(connections.column("reject_reason"), what.reject_reason)
    if what.unencrypted:
        result &= numbers(connections.column("encryption_status"), -1) <= 0
    if what.approved:
        result &= ~within(connections, "initiator" if what.subject == "responder" else "responder", what.approved)
    if what.segments:
        sensitive = np.append(judge.segments.sensitive, False)
        counts = (sides[0] >= 0) | (sides[1] >= 0) if what.segments == "between" else sensitive[sides[0]] | sensitive[sides[1]]
        result &= counts & (sides[0] != sides[1])
        result &= ~allowed(connections, sides, judge.segments.names, judge.policy.allowed, judge.day)
    return result


def _in_states(connections: pa.Table, states: Sequence[str]) -> Flags:
    state = connections.column("state")
    result = np.zeros(connections.num_rows, dtype=bool)
    for name in states:
        if name == REACHED:
            result |= equals(state, "unanswered") & equals(connections.column("verdict_by"), "receiver")
        for word in ANSWERED if name == REACHED else (name,):
            result |= equals(state, word)
    return result


def _is_external_peer(connections: pa.Table, sides: tuple[Ints, Ints], judge: Judge) -> Flags:
    """Connections that reached from the internet into a sensitive segment or out of one; balancers and the like are no peers."""
    sensitive = np.append(judge.segments.sensitive, False)
    inward = in_scopes(connections, "initiator", INTERNET_SCOPES) & sensitive[sides[1]]
    outward = in_scopes(connections, "responder", INTERNET_SCOPES) & sensitive[sides[0]]
    return (inward | outward) & _in_states(connections, ("reached",)) & ~equals(connections.column("initiator_kind"), "proxy")


def _matched(connections: pa.Table, rows: Ints, number: int, what: Connections, sides: tuple[Ints, Ints], judge: Judge) -> pa.Table:
    """The chosen connections summed up by subject and peer."""
    chosen = connections.take(pa.array(rows))
    from_segment, to_segment = sides[0][rows], sides[1][rows]
    at_responder = _subject_is_responder(chosen, what, to_segment, judge)
    (here, there), words = _addresses(chosen, at_responder)
    vpcs, vpc_names = _of_subject(chosen, "vpc_id", at_responder)
    accounts, account_names = _of_subject(chosen, "account_id", at_responder)
    protocol, port = numbers(chosen.column("protocol"), -1), numbers(chosen.column("responder_port"), -1)
    rule = judge.policy.rules[number].id
    begun, to_come = judge.policy.waivers_of(rule, judge.day), judge.policy.waivers_ahead(rule, judge.day)
    waiver, ahead = (waived(chosen, some, vpcs, vpc_names.to_pylist()) for some in (begun, to_come))
    nat, nat_names = codes(chosen.column("nat_id"))
    leg, leg_names = codes(chosen.column("nat_leg"))
    start, end = micros_of(chosen, "first_start"), micros_of(chosen, "last_end")
    if what.subject == "initiator":
        protocol_key, port_key = protocol * 0, port * 0
    elif what.subject == "peer":
        protocol_key, port_key, here = protocol * 0, port * 0, np.zeros_like(here)
    else:
        protocol_key, port_key = protocol, port
    parts = (waiver, vpcs, accounts, here, protocol_key, port_key, from_segment, to_segment, at_responder.astype(np.int64), there, nat, leg)
    order = sort_by(*parts, start, numbers(chosen.column("connection_id"), 0))
    groups = Groups.of(*(part[order] for part in parts))
    first = order[groups.starts]
    named = (words.take(pa.array(code[first])).to_pylist() for code in (here, there))
    segments = (_segment_names(chosen, end, side, judge)[first] for end, side in zip(ENDS, (from_segment, to_segment), strict=True))
    of_groups = zip(*named, *segments, protocol[first], port[first], at_responder[first], strict=True)
    subjects = [_subject(what, *one) for one in of_groups]
    examples = chosen.take(pa.array(first))
    columns = {
        "rule": np.full(len(first), number),
        "waiver": waiver[first],
        "account_id": texts(accounts[first], account_names),
        "vpc_id": texts(vpcs[first], vpc_names),
        "subject": pa.array(subjects, pa.string()),
        "peer": texts(there[first], words),
        "nat_id": texts(nat[first], nat_names),
        "nat_leg": texts(leg[first], leg_names),
        "ahead": groups.max(ahead[order]),
        "connections": groups.sizes,
        "sent": groups.sum(numbers(chosen.column("bytes_sent"), 0)[order]),
        "received": groups.sum(numbers(chosen.column("bytes_received"), 0)[order]),
        "first_seen": start[first],
        "last_seen": groups.max(end[order]),
        **{name: examples.column(name) for name, _ in EXAMPLE_COLUMNS},
        "first_start": start[first],
    }
    return pa.table([cast(columns[field.name], field.type) for field in MATCHED], schema=MATCHED)


def _subject_is_responder(chosen: pa.Table, what: Connections, to_segment: Ints, judge: Judge) -> Flags:
    """Whom each row is about: of a pair the end that is the owner's, and of an external peer's connection the sensitive segment's."""
    if what.subject == "peer":
        return np.append(judge.segments.sensitive, False)[to_segment]
    if what.subject == "pair":
        return in_scopes(chosen, "responder", OWN_SCOPES)
    return np.full(chosen.num_rows, what.subject == "responder")


def _segment_names(chosen: pa.Table, end: str, side: Ints, judge: Judge) -> npt.NDArray[np.object_]:
    """What each end is called: its segment, else `own`, else its scope."""
    code, scopes = codes(chosen.column(f"{end}_scope"))
    names = np.array([OWN if scope in OWN_SCOPES else scope for scope in scopes.to_pylist()] + ["unknown"], dtype=object)
    return np.where(side >= 0, np.array([*judge.segments.names, ""], dtype=object)[side], names[code])


def _subject(what: Connections, address: str, peer: str, source: str, target: str, protocol: int, port: int, at_responder: bool) -> str:
    service = f"{PROTOCOL_NAMES.get(protocol, protocol)}" + (f"/{port}" if port >= 0 else "")
    if what.subject == "initiator":
        return address
    if what.subject == "responder":
        return f"{address} {service}"
    if what.subject == "peer":
        return f"{target if at_responder else source}{PEER_SIGN}{peer}"
    return f"{source} → {target} {address} {service}" if at_responder else f"{source} {address} → {target} {service}"


def _addresses(chosen: pa.Table, at_responder: Flags) -> tuple[tuple[Ints, Ints], pa.Array]:
    """The address of the subject and that of its peer."""
    (initiator, responder), words = shared_codes(chosen.column("initiator_addr"), chosen.column("responder_addr"))
    return (np.where(at_responder, responder, initiator), np.where(at_responder, initiator, responder)), words


def _of_subject(chosen: pa.Table, name: str, at_responder: Flags) -> tuple[Ints, pa.Array]:
    """A text that is known of the subject, else of its peer."""
    initiator, responder = (chosen.column(f"{end}_{name}").cast(pa.string()) for end in ENDS)
    mine = pc.if_else(pa.array(at_responder), responder, initiator)
    return codes(pc.coalesce(mine, initiator, responder))


def micros_of(connections: pa.Table, name: str) -> Ints:
    """A column of times in microseconds, -1 for null."""
    return numbers(connections.column(name).cast(pa.int64()), -1)
