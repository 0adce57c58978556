"""How often the port rules are right: what each is asked, what it is not told, and that parts of a day add up."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs.confidence import (
    ALONE,
    ASKED,
    COUNTS,
    IN_TURN,
    READ,
    RULES,
    WITHOUT_SERVERS,
    Agreement,
    Known,
    Share,
    agreements,
    clues,
    concluded,
    counted,
)
from flowlog_udfs.connections import CONNECTIONS
from flowlog_udfs.services import PortRules, Service

TCP = 6
PORTS = PortRules.build([Service(443, TCP, "https"), Service(5432, TCP, "postgresql")])
COLUMNS = pa.schema([CONNECTIONS.field(name) for name in READ])
Row = dict[str, Any]


def connection(initiator: str, responder: str, **changed: object) -> Row:
    """`address:port` of both ends of a connection that was answered, with flags of both, logged by both ends' interfaces."""
    (source, out), (target, back) = (end.rsplit(":", 1) for end in (initiator, responder))
    return {
        "network": "vpc-1",
        "initiator_addr": source,
        "initiator_port": int(out),
        "responder_addr": target,
        "responder_port": int(back),
        "protocol": TCP,
        "initiator_interface_id": f"eni-{source}",
        "responder_interface_id": f"eni-{target}",
        "initiator_kind": "host",
        "packets_sent": 5,
        "packets_received": 4,
        "rejected_packets_sent": 0,
        "rejected_packets_received": 0,
        "state": "established",
        "basis": "syn+syn-ack",
        "confidence": 1.0,
        "proven": True,
    } | changed


def probe(initiator: str, responder: str, **changed: object) -> Row:
    """A connection that nobody answered, rejected at the responder."""
    alone = {"packets_sent": 0, "packets_received": 0, "rejected_packets_sent": 2, "state": "rejected", "basis": "syn", "proven": False}
    return connection(initiator, responder, **(alone | changed))


def table(rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), pa.schema([field.with_type(plain(field.type)) for field in COLUMNS])).cast(COLUMNS)


def plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def measured(*parts: Sequence[Row]) -> dict[str, Agreement]:
    """The agreement of each basis on a day that stands in so many parts."""
    tables = [table(rows) for rows in parts]
    found, visits = zip(*(clues(one, PORTS) for one in tables), strict=True)
    known = Known.of(concluded(pa.concat_tables(found), pa.concat_tables(visits)))
    return {one.basis: one for one in agreements(pa.concat_tables(counted(one, known, PORTS) for one in tables))}


def shares(rows: Sequence[Row], asked: str = IN_TURN) -> dict[str, tuple[int, int]]:
    """Connections decided and right of every basis that decided any."""
    found = {basis: one.shares[asked] for basis, one in measured(rows).items()}
    return {basis: (share.connections, share.right) for basis, share in found.items() if share.connections}


@pytest.mark.parametrize(
    "row, expected",
    [
        (connection("10.0.0.1:40000", "10.0.0.2:443"), {"well-known-port": (1, 1)}),
        (connection("10.0.0.1:443", "10.0.0.2:40000"), {"well-known-port": (1, 0)}),  # a client on a server's port: wrong
        (connection("10.0.0.1:40000", "10.0.0.2:8200"), {"ephemeral-port": (1, 1)}),
        (connection("10.0.0.1:8200", "10.0.0.2:40000"), {"ephemeral-port": (1, 0)}),
        (connection("10.0.0.1:50000", "10.0.0.2:40000"), {"port-order": (1, 1)}),
        (connection("10.0.0.1:40000", "10.0.0.2:50000"), {"port-order": (1, 0)}),
        (connection("10.0.0.1:123", "10.0.0.2:123"), {}),  # equal ports tell nothing
        (probe("10.0.0.1:40000", "10.0.0.2:60000"), {"sole-sender": (1, 1)}),
        (probe("10.0.0.1:443", "10.0.0.2:40000"), {}),  # looks like an answer to nobody: no initiator is named
        (probe("10.0.0.1:40000", "10.0.0.2:443", state="partial"), {"well-known-port": (1, 1)}),  # replies were not to be seen
        (
            probe("10.0.0.1:40000", "10.0.0.2:443", initiator_interface_id=None, responder_interface_id=None),
            {"well-known-port": (1, 1)},  # only a middlebox saw it
        ),
        (connection("10.0.0.1:40000", "10.0.0.2:443", basis="well-known-port", confidence=0.9, proven=False), {}),
        (connection("10.0.0.1:40000", "10.0.0.2:443", confidence=0.8, proven=False), {}),  # flags that contradict each other
        (connection("10.0.0.1:40000", "10.0.0.1:40000"), {}),  # an end that talks to itself
        (connection("10.0.0.1:40000", "10.0.0.2:443", initiator_port=None), {}),  # a format without that port
    ],
)
def test_the_first_rule_that_decides(row: Row, expected: dict[str, tuple[int, int]]):
    assert shares([row]) == expected


def test_a_connection_does_not_prove_its_own_server():
    once = connection("10.0.0.1:40000", "10.0.0.9:50000")
    assert shares([once]) == {"port-order": (1, 0)}
    again = connection("10.0.0.2:40000", "10.0.0.9:50000")
    assert shares([once, again]) == {"known-server": (2, 2)}
    # What the others prove is of an end: another port or network is another end.
    for other in ({"responder_port": 50001}, {"network": "vpc-2"}):
        assert shares([once, again | other]) == {"port-order": (2, 0)}
    # An answer that nothing proves is no proof.
    assert shares([once, again | {"proven": False}]) == {"known-server": (1, 1), "port-order": (1, 0)}


def test_two_known_servers_leave_the_ports_to_decide():
    rows = [
        connection("10.0.0.8:50000", "10.0.0.9:443"),
        connection("10.0.0.1:40000", "10.0.0.8:50000"),
        connection("10.0.0.1:40001", "10.0.0.9:443"),
    ]
    # The first connection's ends are both proven by the others; each other end by the first one or not at all.
    assert shares(rows) == {"known-server": (1, 1), "well-known-port": (1, 1), "port-order": (1, 0)}


def test_fan_in_takes_three_peers_that_spoke_both_ways():
    # Nobody is proven here: SYNs were seen, no SYN-ACKs.
    visits = [connection(f"10.0.1.{number}:40000", "10.0.0.9:50000", basis="syn", proven=False) for number in range(3)]
    assert shares(visits[:2]) == {"port-order": (2, 0)}
    assert shares(visits) == {"fan-in": (3, 3)}
    assert shares([*visits[:2], visits[2] | {"packets_received": 0, "rejected_packets_received": 4}]) == {"port-order": (3, 0)}
    # Two episodes are one peer, and together may show both ways.
    halves = [visits[2] | {"packets_received": 0, "state": "partial"}, visits[2] | {"packets_sent": 0, "state": "partial"}]
    assert shares([*visits[:2], *halves]) == {"fan-in": (4, 4)}
    assert shares([*visits[:2], visits[1]]) == {"port-order": (3, 0)}
    # Another protocol is another end; connections without flags count as visits, though they are not judged.
    assert shares([*visits[:2], visits[2] | {"protocol": 17, "basis": "fan-in", "confidence": 0.8}]) == {"port-order": (2, 0)}
    assert shares([*visits[:2], visits[2] | {"basis": "fan-in", "confidence": 0.8}]) == {"fan-in": (2, 2)}


def test_a_proxy_calls_from_any_port():
    plain_host = connection("10.0.0.1:1111", "10.0.0.2:9000", basis="syn", proven=False)
    assert shares([plain_host]) == {"port-order": (1, 0)}
    proxy = plain_host | {"initiator_kind": "proxy"}
    assert shares([proxy]) == {"ephemeral-port": (1, 1)}
    # A proxy is one as a responder too, wherever the day shows that it is.
    called = connection("10.0.0.3:9000", "10.0.0.1:1111", basis="syn", proven=False)
    assert shares([called]) == {"port-order": (1, 1)}
    assert shares([proxy, called]) == {"ephemeral-port": (2, 1)}
    # A regional NAT gateway has no interface.
    assert shares([proxy | {"initiator_interface_id": None}]) == {"ephemeral-port": (1, 1)}


def test_each_way_to_ask():
    rows = [connection(f"10.0.0.{number}:4000{number}", "10.0.0.9:443") for number in range(3)]
    assert shares(rows) == {"known-server": (3, 3)}
    assert shares(rows, WITHOUT_SERVERS) == {"well-known-port": (3, 3)}
    # By itself, every rule that can decide.
    every = {"known-server": (3, 3), "well-known-port": (3, 3), "ephemeral-port": (3, 3), "port-order": (3, 3)}
    assert shares(rows, ALONE) == every


def agreement(basis: str, connections: int, right: int) -> float | None:
    """The confidence of a basis, where every way to ask gave the same."""
    rows = [{"asked": asked, "basis": basis, "connections": connections, "right": right} for asked in ASKED]
    found = {one.basis: one for one in agreements(pa.Table.from_pylist(rows, COUNTS))}
    assert list(found) == list(RULES)
    assert found[basis].shares[IN_TURN] == Share(connections, right)
    return found[basis].confidence


def test_confidence_is_rounded_down_and_never_above_its_limit():
    assert agreement("ephemeral-port", 1000, 879) == 0.87
    assert agreement("ephemeral-port", 100, 0) == 0.0
    assert agreement("ephemeral-port", 1000, 1000) == 0.9
    assert agreement("known-server", 100, 90) == 0.9
    assert agreement("port-order", 1000, 1000) == 0.59
    assert agreement("port-order", 1000, 512) == 0.51


def test_nothing_is_measured_by_few_or_by_construction():
    assert agreement("fan-in", 99, 99) is None
    assert agreement("fan-in", 100, 85) == 0.85
    assert agreement("sole-sender", 1000, 1000) is None


def test_published_is_what_is_left_to_a_rule():
    ways = {IN_TURN: Share(1000, 500), WITHOUT_SERVERS: Share(1000, 700), ALONE: Share(9000, 8999)}
    assert Agreement("ephemeral-port", ways).confidence == 0.7
    assert Agreement("known-server", ways).confidence == 0.5


def test_a_day_without_connections():
    found = measured([])
    assert [one.confidence for one in found.values()] == [None] * len(RULES)


ADDRESSES = [f"10.0.0.{number}" for number in range(1, 5)]
SOME_PORTS = [443, 5432, 700, 8200, 40000, 50000]


@st.composite
def days(draw: st.DrawFn) -> list[Row]:
    """Connections among few ends, so that servers, fan-in and proxies come up."""
    drawn = st.tuples(*[st.sampled_from(ADDRESSES), st.sampled_from(SOME_PORTS)] * 2, st.integers(0, 3), st.booleans(), st.booleans())
    rows = []
    for source, out, target, back, traffic, proven, proxy in draw(st.lists(drawn, max_size=30)):
        row = connection(f"{source}:{out}", f"{target}:{back}", basis="syn+syn-ack" if proven else "syn", proven=proven)
        row |= {"packets_sent": traffic & 1, "packets_received": traffic >> 1, "initiator_kind": "proxy" if proxy else "host"}
        rows.append(row)
    return rows


@given(days(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_neither_order_nor_parts_matter(rows: list[Row], parts: int, chance: random.Random):
    whole = measured(rows)
    shuffled = chance.sample(rows, len(rows))
    assert measured(*(shuffled[start::parts] for start in range(parts))) == whole


@given(days())
def test_every_rule_counts_no_more_than_there_is(rows: list[Row]):
    found = measured(rows)
    for asked in ASKED:
        assert all(one.shares[asked].right <= one.shares[asked].connections <= len(rows) for one in found.values())
    # In turn each connection is decided once; a rule asked by itself decides no fewer.
    assert sum(one.shares[IN_TURN].connections for one in found.values()) <= len(rows)
    assert all(one.shares[asked].connections <= one.shares[ALONE].connections for one in found.values() for asked in ASKED)


ENDS = ("addr", "port", "interface_id")
SENT = ("packets", "rejected_packets")


def reversed_roles(row: Row) -> Row:
    """The same packets, if the other end had initiated."""
    swapped = {f"{a}_{name}": row[f"{b}_{name}"] for a, b in (("initiator", "responder"), ("responder", "initiator")) for name in ENDS}
    swapped |= {f"{name}_{a}": row[f"{name}_{b}"] for a, b in (("sent", "received"), ("received", "sent")) for name in SENT}
    return row | swapped


@given(days())
def test_rules_are_not_told_who_initiated(rows: list[Row]):
    unproven = [row | {"proven": False, "initiator_kind": "host"} for row in rows if row["initiator_addr"] != row["responder_addr"]]
    there, back = measured(unproven), measured([reversed_roles(row) for row in unproven])
    for basis in RULES:
        for asked in ASKED:
            share = there[basis].shares[asked]
            assert back[basis].shares[asked] == Share(share.connections, share.connections - share.right)
