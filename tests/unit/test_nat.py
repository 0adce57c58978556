"""Pairing the legs of translators: what can be told apart is paired, what cannot is left at one in k."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.legs import Leg, find_pairs
from reference.rows import End

from flowlog_udfs import nat_pairs
from flowlog_udfs.nat import BACK, FRONT, INSIDE, LEGS, MARKS, NAT_MAPPINGS, OUTSIDE, POD, UNPAIRED, map_legs, talk_hashes

PLAIN = pa.schema([(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type) for field in LEGS])
REMOTE = ("203.0.113.5", 443)
FIN_BOTH, RST = 3, 4


def leg(sort: int, connection: int, near: tuple[str, int], **other: Any) -> dict[str, Any]:
    """A leg of 12/1800 out and 10/4000 in at a NAT gateway."""
    far_addr, far_port = other.pop("far", REMOTE)
    return {
        "connection": connection,
        "observer": "eni-nat",
        "nat_id": "eni-nat",
        "nat_kind": "nat_gateway",
        "nat_interface_id": "eni-nat",
        "leg": sort,
        "single_gateway": True,
        "near_addr": near[0],
        "near_port": near[1],
        "far_addr": far_addr,
        "far_port": far_port,
        "protocol": 6,
        "nat_addr": near[0] if sort in (OUTSIDE, FRONT) else "10.0.0.220",
        "outward": True,
        "initiator_is_far": False,
        "packets_out": 12,
        "packets_in": 10,
        "bytes_out": 1800,
        "bytes_in": 4000,
        "flags_out": FIN_BOTH,
        "flags_in": 19,
        "start": 0,
        "end": 60,
        "is_plain": False,
        **other,
    }


def inside(number: int, **other: Any) -> dict[str, Any]:
    return leg(INSIDE, other.pop("connection", number), (f"10.0.1.{number}", 40001), **other)


def outside(port: int, **other: Any) -> dict[str, Any]:
    return leg(OUTSIDE, other.pop("connection", 100_000 + port), ("10.0.0.220", port), **other)


def table_of(legs: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(legs), PLAIN).cast(LEGS)


def mapped(*legs: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[int, tuple[str | None, str]]]:
    """Rows of `nat_mappings`, and the marks by connection."""
    mappings, marks = map_legs(table_of(legs))
    assert mappings.schema == NAT_MAPPINGS
    assert marks.schema == MARKS
    by_connection = {row["connection"]: (row["nat_id"], row["nat_leg"]) for row in marks.to_pylist()}
    assert len(by_connection) == marks.num_rows
    return mappings.to_pylist(), by_connection


def found(*legs: dict[str, Any]) -> list[tuple[str, int | None, int, str, float]]:
    rows = mapped(*legs)[0]
    key = ("inside_addr", "nat_port", "candidates", "method")
    return sorted(((*(row[name] for name in key), round(row["confidence"], 3)) for row in rows), key=str)


def test_all_columns_of_a_pair():
    inner = inside(5, start=1_772_000_000, end=1_772_000_060)
    rows, marks = mapped(inner, outside(1111, start=1_772_000_090, end=1_772_000_150))
    assert [{**row, "first_start": row["first_start"].timestamp(), "last_end": row["last_end"].timestamp()} for row in rows] == [
        {
            "nat_id": "eni-nat",
            "nat_kind": "nat_gateway",
            "nat_interface_id": "eni-nat",
            "nat_addr": "10.0.0.220",
            "nat_port": 1111,
            "inside_addr": "10.0.1.5",
            "inside_port": 40001,
            "remote_addr": "203.0.113.5",
            "remote_port": 443,
            "protocol": 6,
            "bytes_out": 1800,
            "bytes_in": 4000,
            "first_start": 1_772_000_000,
            "last_end": 1_772_000_060,
            "candidates": 1,
            "method": "exact",
            "confidence": 0.95,
        }
    ]
    assert marks == {5: ("eni-nat", "inside"), 101_111: ("eni-nat", "outside")}


def test_two_alike_are_candidates_of_each_other():
    alike = (inside(5), inside(6), outside(1111), outside(2222))
    assert found(*alike) == [(f"10.0.1.{n}", port, 2, "alike", 0.5) for n in (5, 6) for port in (1111, 2222)]


def test_one_byte_tells_them_apart():
    legs = (inside(5), inside(6, bytes_out=1801), outside(1111, bytes_out=1801), outside(2222))
    assert found(*legs) == [("10.0.1.5", 2222, 1, "exact", 0.95), ("10.0.1.6", 1111, 1, "exact", 0.95)]


def test_flags_tell_them_apart():
    legs = (inside(5), inside(6, flags_in=23), outside(1111, flags_in=23), outside(2222))
    assert [row[:2] for row in found(*legs)] == [("10.0.1.5", 2222), ("10.0.1.6", 1111)]


@pytest.mark.parametrize(
    "other",
    [
        {"far": ("203.0.113.6", 443)},
        {"far": ("203.0.113.5", 80)},
        {"observer": "eni-2"},
        {"protocol": 17},
        {"start": 121},
        {"end": 181},
        {"packets_in": 9},
        {"bytes_in": 3999},
        {"connection": 5},
    ],
)
def test_legs_that_do_not_fit(other):
    assert found(inside(5), outside(1111, **other)) == [("10.0.1.5", None, 0, "unpaired", 1.0)]


def test_the_last_second_fits():
    assert found(inside(5), outside(1111, start=120, end=180))[0][1] == 1111


def test_legs_without_a_remote_port_are_not_paired():
    assert found(inside(5, far=("203.0.113.5", -1)), outside(1111, far=("203.0.113.5", -1))) == [("10.0.1.5", None, 0, "unpaired", 1.0)]


def test_a_nat_port_used_again_later_and_for_another_remote():
    legs = [inside(5), outside(1111), inside(6, start=900, end=960), outside(1111, connection=7, start=900, end=960)]
    legs += [inside(7, far=("203.0.113.9", 443)), outside(1111, connection=8, far=("203.0.113.9", 443))]
    assert found(*legs) == [(f"10.0.1.{n}", 1111, 1, "exact", 0.95) for n in (5, 6, 7)]


def test_nat64_compares_packets_not_bytes():
    legs = (inside(5, far=("64:ff9b::cb00:7105", 443), bytes_out=2040, bytes_in=4200), outside(1111))
    rows, _ = mapped(*legs)
    assert [(row["nat_port"], row["remote_addr"], row["method"]) for row in rows] == [(1111, "64:ff9b::cb00:7105", "exact")]
    assert len(set(talk_hashes(table_of(legs)).tolist())) == 1


def test_a_plain_and_a_nat64_leg_share_an_outside():
    legs = (inside(5), inside(6, far=("64:ff9b::cb00:7105", 443), bytes_out=2040), outside(1111))
    assert found(*legs) == [(f"10.0.1.{n}", 1111, 2, "alike", 0.5) for n in (5, 6)]


def test_a_reset_seen_on_one_leg_only():
    more = {"packets_out": 13, "bytes_out": 1840}
    assert found(inside(5, **more, flags_out=FIN_BOTH | RST), outside(1111)) == [("10.0.1.5", 1111, 1, "near", 0.8)]
    assert found(inside(5), outside(1111, **more, flags_out=FIN_BOTH | RST)) == [("10.0.1.5", 1111, 1, "near", 0.8)]
    assert found(inside(5, **more), outside(1111, flags_out=FIN_BOTH | RST))[0][3] == "unpaired"
    assert found(inside(5, **more | {"bytes_out": 1861}, flags_out=RST), outside(1111))[0][3] == "unpaired"
    assert found(inside(5, packets_out=15, flags_out=RST), outside(1111))[0][3] == "unpaired"
    assert found(inside(5, packets_out=13, flags_out=-1), outside(1111))[0][3] == "unpaired"


def test_near_pairs_are_of_what_exact_ones_left():
    legs = (inside(5), inside(6, packets_out=13, flags_out=RST), outside(1111))
    assert found(*legs) == [("10.0.1.5", 1111, 1, "exact", 0.95), ("10.0.1.6", None, 0, "unpaired", 1.0)]


def test_three_inside_two_outside():
    legs = [inside(n) for n in (5, 6, 7)] + [outside(1111), outside(2222)]
    assert {(row[2], row[4]) for row in found(*legs)} == {(3, 0.333)}


def test_above_eight_alike_one_row_without_port():
    legs = [inside(n) for n in range(9)] + [outside(1000 + n) for n in range(9)]
    rows, marks = mapped(*legs)
    assert sorted((row["inside_addr"], row["nat_id"], row["nat_addr"], row["nat_port"], row["candidates"]) for row in rows) == [
        (f"10.0.1.{n}", "eni-nat", "10.0.0.220", None, 9) for n in range(9)
    ]
    assert {row["method"] for row in rows} == {"alike"}
    assert Counter(place for _, place in marks.values()) == {"inside": 9, "outside": 9}


def test_of_many_with_two_addresses_neither_is_named():
    legs = [inside(n) for n in range(9)] + [
        outside(1000 + n, near_addr=f"10.0.0.{220 + n % 2}", nat_addr=f"10.0.0.{220 + n % 2}") for n in range(9)
    ]
    assert {(row["nat_id"], row["nat_addr"]) for row in mapped(*legs)[0]} == {("eni-nat", None)}


def test_an_outside_leg_alone_is_marked_if_the_nat_opened_it():
    assert mapped(outside(1111)) == ([], {101_111: ("eni-nat", "outside")})
    assert mapped(outside(1111, outward=False)) == ([], {})
    assert mapped(outside(1111, outward=None)) == ([], {})
    assert mapped(outside(1111, nat_kind="other")) == ([], {})


def test_hops_are_turned_and_unmarked():
    hop = {"nat_kind": "transit_gateway", "nat_id": "eni-tgw", "observer": "eni-tgw", "bytes_out": 1800}
    rows, marks = mapped(inside(5, **hop), inside(6, **hop, initiator_is_far=True))
    told = [
        (row["inside_addr"], row["nat_port"], row["remote_addr"], row["remote_port"], row["bytes_out"], row["bytes_in"]) for row in rows
    ]
    assert sorted(told) == [("10.0.1.5", 40001, "203.0.113.5", 443, 1800, 4000), ("203.0.113.5", 443, "10.0.1.6", 40001, 4000, 1800)]
    assert {(row["method"], row["candidates"], row["confidence"], row["nat_addr"]) for row in rows} == {("hop", 1, 1.0, "10.0.0.220")}
    assert marks == {}


def test_a_middlebox_with_an_outside_leg_in_the_talk_translates():
    legs = (inside(5, nat_kind="other", initiator_is_far=True), outside(1111, nat_kind="other", packets_in=99))
    rows, marks = mapped(*legs)
    assert [(row["method"], row["inside_addr"], row["nat_port"], row["candidates"]) for row in rows] == [(UNPAIRED, "10.0.1.5", None, 0)]
    assert marks == {5: ("eni-nat", "inside")}


def test_a_pod_stands_behind_its_node():
    rows, marks = mapped(leg(POD, 1, ("10.0.2.77", 8080), nat_kind="pod", nat_id="eni-node", nat_addr="10.0.2.10", outward=False))
    assert [(row["nat_addr"], row["nat_port"], row["inside_addr"], row["method"], row["confidence"]) for row in rows] == [
        ("10.0.2.10", 8080, "10.0.2.77", "packet-level", 1.0)
    ]
    assert marks == {}


CLIENT = ("198.51.100.4", 50000)


def balancer(**other: Any) -> dict[str, Any]:
    named = {"observer": "eni-nlb", "nat_id": "eni-nlb", "nat_interface_id": "eni-nlb", "nat_kind": "load_balancer", "flags_out": -1}
    return leg(FRONT, 1, ("10.0.9.5", 443), **{"far": CLIENT, **named, "outward": False, **other})


def target(number: int, **other: Any) -> dict[str, Any]:
    named = {"observer": None, "nat_id": None, "nat_interface_id": None, "nat_kind": "load_balancer", "nat_addr": None, "flags_out": -1}
    return leg(BACK, number, (f"10.0.1.{number}", 8443), **{"far": CLIENT, **named, "outward": False, **other})


def test_a_balancer_that_keeps_the_client():
    rows, marks = mapped(balancer(), target(5, start=120, end=9000, bytes_out=1))
    names = ("nat_id", "nat_interface_id", "nat_addr", "nat_port", "inside_addr", "inside_port", "remote_addr", "remote_port", "bytes_out")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("eni-nlb", "eni-nlb", "10.0.9.5", 443, "10.0.1.5", 8443, *CLIENT, 1),
    ]
    assert (rows[0]["method"], rows[0]["confidence"], rows[0]["nat_kind"]) == ("client-preserved", 0.95, "load_balancer")
    assert marks == {1: ("eni-nlb", "outside"), 5: ("eni-nlb", "inside")}


def test_a_balancer_with_other_packets_or_two_targets():
    assert found(balancer(), target(5, packets_in=11)) == [("10.0.1.5", 443, 1, "client-preserved", 0.8)]
    assert found(balancer(), target(5), target(6)) == [(f"10.0.1.{n}", 443, 2, "client-preserved", 0.5) for n in (5, 6)]
    for other in ({"start": 121}, {"far": ("198.51.100.4", 50001)}, {"protocol": 17}, {"near_addr": "10.0.9.5"}):
        assert mapped(balancer(), target(5, **other)) == ([], {})


def regional(public: str) -> dict[str, Any]:
    return {
        "observer": "@vpc/vpc-1",
        "nat_kind": "regional_nat_gateway",
        "single_gateway": False,
        "nat_interface_id": None,
        "nat_id": public,
    }


def test_two_gateways_without_a_name_are_never_cross_paired():
    inner = [inside(n, **regional(""), outward=True) | {"nat_id": None, "nat_addr": None} for n in (5, 6)]
    outer = [outside(1111 * n, **regional(f"vpc-1/198.51.100.{n}"), near_addr=f"198.51.100.{n}") for n in (1, 2)]
    rows, marks = mapped(*inner, *outer)
    assert [(row["inside_addr"], row["nat_id"], row["nat_addr"], row["nat_port"], row["method"]) for row in rows] == [
        (f"10.0.1.{n}", None, None, None, "unpaired") for n in (5, 6)
    ]
    assert marks == {
        5: (None, "inside"),
        6: (None, "inside"),
        101_111: ("vpc-1/198.51.100.1", "outside"),
        102_222: ("vpc-1/198.51.100.2", "outside"),
    }
    rows, marks = mapped(inner[0], outer[1])
    assert [(row["nat_id"], row["nat_port"], row["candidates"]) for row in rows] == [("vpc-1/198.51.100.2", 2222, 1)]
    assert marks[5] == ("vpc-1/198.51.100.2", "inside")


def test_inside_goes_before_outside_and_names_in_order():
    rest = {"far": ("203.0.113.9", 443)}
    hub = {"observer": "eni-hub", "nat_id": "eni-hub"}
    legs = (outside(1111, connection=5), inside(5, **rest), inside(5, **rest, **hub))
    assert mapped(*legs)[1] == {5: ("eni-hub", "inside")}
    assert mapped(*(one | {"is_plain": True} for one in legs))[1] == {}


def test_talks_are_the_same_however_legs_are_cut():
    whole = table_of(
        [inside(5), outside(1111), inside(6, far=("64:ff9b::cb00:7105", 443)), inside(7, observer="eni-2"), balancer(), target(5)]
    )
    hashes = talk_hashes(whole).tolist()
    assert hashes == [value for n in range(whole.num_rows) for value in talk_hashes(whole.slice(n, 1)).tolist()]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert hashes[4] == hashes[5]
    assert talk_hashes(table_of([inside(5)])).tolist() == [10072883166908275554]


def test_no_legs():
    assert mapped() == ([], {})


SMALL = st.fixed_dictionaries(
    {
        "sort": st.sampled_from((INSIDE, OUTSIDE)),
        "remote": st.sampled_from([("203.0.113.5", 443)] * 4 + [("203.0.113.5", None), ("64:ff9b::cb00:7105", 443), ("203.0.113.6", 443)]),
        "packets": st.tuples(st.sampled_from((3, 3, 3, 4, 5, 6)), st.sampled_from((2, 2, 3))),
        "octets": st.tuples(st.sampled_from((180, 180, 180, 220, 300)), st.sampled_from((120, 120, 160))),
        "flags": st.tuples(st.sampled_from((2, 6, 6, None)), st.sampled_from((18, 18, 22))),
        "start": st.sampled_from((0, 60, 60, 120, 121, 300)),
        "length": st.sampled_from((10, 10, 100, 200)),
        "connection": st.integers(0, 40),
    }
)
"""Legs of few kinds, most of them alike, so that they meet."""


def _both_ways(drawn: list[dict[str, Any]]) -> tuple[list[Leg], list[Leg], list[dict[str, Any]]]:
    sides: tuple[list[Leg], list[Leg]] = ([], [])
    legs = []
    for number, one in enumerate(drawn):
        near, far = End(f"10.0.1.{number}", number), End(*one["remote"])
        episode = (("net", End("c", one["connection"]), End("s", 1), 6), 1)
        times = one["start"], one["start"] + one["length"]
        sides[one["sort"]].append(Leg(episode, near, far, (*one["packets"], *one["octets"]), one["flags"], *times))
        flags = [-1 if value is None else value for value in one["flags"]]
        amounts = dict(zip(("packets_out", "packets_in", "bytes_out", "bytes_in"), (*one["packets"], *one["octets"]), strict=True))
        remote = (one["remote"][0], -1 if one["remote"][1] is None else one["remote"][1])
        identity = {"connection": one["connection"], "flags_out": flags[0], "flags_in": flags[1], "start": times[0], "end": times[1]}
        legs.append(leg(one["sort"], 0, (near.address, number), far=remote) | amounts | identity)
    return *sides, legs


def _told(drawn: list[dict[str, Any]], **constants: int) -> tuple[list[tuple[Leg, Leg, int, str]], list[dict[str, Any]]]:
    """The reference's pairs, and the rows of the kernel where its constants are others."""
    insides, outsides, legs = _both_ways(drawn)
    with patch.multiple(nat_pairs, **constants):
        rows, marks = mapped(*legs)
    assert {one["connection"] for one in legs if one["leg"] == INSIDE} <= set(marks)
    assert {row["inside_addr"] for row in rows} == {one.near.address for one in insides}
    return find_pairs(insides, outsides, {"pairing_seconds": nat_pairs.TOLERANCE}), rows


@pytest.mark.parametrize("most", [nat_pairs.MAX_CANDIDATES, 2])
@given(drawn=st.lists(SMALL, max_size=16))
@settings(max_examples=150)
def test_pairs_are_those_of_the_reference(most, drawn):
    pairs, rows = _told(drawn, MAX_CANDIDATES=most)
    expected: set[tuple[Any, ...]] = set()
    crowds: dict[str, int] = {}
    for one, other, count, method in pairs:
        if count > most:
            crowds[one.near.address] = max(count, crowds.get(one.near.address, 0))
        else:
            expected.add((one.near.address, other.near.port, count, method))
    told = [row for row in rows if row["method"] != UNPAIRED]
    named = {(row["inside_addr"], row["nat_port"], row["candidates"], row["method"]) for row in told if row["nat_port"] is not None}
    assert named == expected
    assert {row["inside_addr"]: row["candidates"] for row in told if row["nat_port"] is None} == crowds
    for row in told:
        single = 0.8 if row["method"] == "near" else 0.95
        assert row["confidence"] == (single if row["candidates"] == 1 else 1 / row["candidates"])


@given(drawn=st.lists(SMALL, max_size=16))
@settings(max_examples=150)
def test_a_crowd_hides_pairs_and_invents_none(drawn):
    """With windows of two legs nearly all is a crowd: it may count too many partners, but what it names fits, and what fits it shows."""
    pairs, rows = _told(drawn, MAX_CANDIDATES=2, WIDEST=2)
    counts = {(one.near.address, other.near.port): count for one, other, count, method in pairs if method != "near"}
    told = [row for row in rows if row["method"] in ("exact", "alike")]
    named = {(row["inside_addr"], row["nat_port"]): row["candidates"] for row in told if row["nat_port"] is not None}
    assert all(counts[pair] <= count for pair, count in named.items())
    unnamed = {row["inside_addr"] for row in told if row["nat_port"] is None}
    assert all(pair in named or pair[0] in unnamed for pair in counts)


@given(drawn=st.lists(SMALL, min_size=2, max_size=14), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_order_changes_nothing(drawn, seed):
    legs = _both_ways(drawn)[2]
    legs = [one | {"connection": number, "observer": f"eni-{number % 2}"} for number, one in enumerate(legs)]
    shuffled = random.Random(seed).sample(legs, len(legs))
    cut = len(legs) // 2
    pieces = pa.concat_tables([table_of(shuffled[:cut]), table_of(shuffled[cut:])])
    for one, other in zip(map_legs(table_of(legs)), map_legs(pieces), strict=True):
        assert one.to_pylist() == other.to_pylist()


def _many(count: int, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> pa.Table:
    """As many inside as outside legs, alike but for their times."""
    rows = {}
    for field in PLAIN:
        values = [inside(5)[field.name], outside(1111)[field.name]]
        rows[field.name] = pa.array(values, field.type).take(pa.array(np.repeat((0, 1), count)))
    rows |= {"connection": pa.array(np.arange(2 * count)), "start": pa.array(np.tile(starts, 2)), "end": pa.array(np.tile(ends, 2))}
    return pa.table([rows[field.name] for field in PLAIN], PLAIN).cast(LEGS)


@pytest.mark.parametrize("seconds", [60, 3_600, 86_400])
def test_a_crowd_of_twenty_thousand_alike(seconds):
    starts = np.arange(20_000) * seconds // 20_000
    legs = _many(20_000, starts, starts + 5)
    began = time.process_time()
    mappings, marks = map_legs(legs)
    assert time.process_time() - began < 2
    candidates = mappings.column("candidates").to_numpy()
    near = np.searchsorted(starts, starts + 120, side="right") - np.searchsorted(starts, starts - 120)
    assert mappings.num_rows == 20_000
    assert mappings.column("nat_port").null_count == 20_000
    # Starts are the same on both sides, so either leg of a pair may be the one with more partners.
    assert (candidates >= near).all()
    assert candidates.max() == near.max()
    assert marks.num_rows == 40_000


def test_a_crowd_leaves_others_of_its_talk_alone():
    starts = np.zeros(1_000, np.int64)
    crowd = _many(1_000, starts, starts + 5)
    others = table_of([inside(6, connection=9_001, bytes_out=7), outside(7, connection=9_002, bytes_out=7)])
    rows = map_legs(pa.concat_tables([crowd, others]))[0].to_pylist()
    assert [(row["inside_addr"], row["nat_port"]) for row in rows if row["candidates"] == 1] == [("10.0.1.6", 7)]
    assert Counter(row["candidates"] for row in rows) == {1_000: 1_000, 1: 1}
