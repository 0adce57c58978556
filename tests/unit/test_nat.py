"""Pairing the legs of a NAT: what can be told apart is paired, what cannot is left at one in k."""

import pyarrow as pa
import pytest

from flowlog_udfs.nat import LEGS, METHODS, pair


def leg(side, out, back, *, start=0, end=60, remote=("203.0.113.5", 443), gateway="eni-nat", outward=True, nat64=False):
    return {
        "gateway": gateway,
        "protocol": 6,
        "remote_addr": remote[0],
        "remote_port": remote[1],
        "is_inside": side == "inside",
        "outward": outward,
        "packets_out": out[0],
        "bytes_out": out[1],
        "packets_in": back[0],
        "bytes_in": back[1],
        "start": start,
        "end": end,
        "is_translated_family": nat64,
    }


def pairs(*legs):
    plain = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in LEGS])
    found = pair(pa.Table.from_pylist(list(legs), plain).cast(LEGS))
    columns = (found.inside, found.outside, found.candidates, found.method, found.confidence)
    return sorted((int(i), int(o), int(k), METHODS[m], round(float(c), 3)) for i, o, k, m, c in zip(*columns, strict=True))


def test_one_leg_each():
    assert pairs(leg("inside", (12, 1800), (10, 4000)), leg("outside", (12, 1800), (10, 4000), start=90, end=150)) == [
        (0, 1, 1, "same-sizes", 0.95)
    ]


def test_two_alike_are_candidates_of_each_other():
    alike = [leg(side, (12, 1800), (10, 4000)) for side in ("inside", "inside", "outside", "outside")]
    assert pairs(*alike) == [(i, o, 2, "same-sizes", 0.5) for i in (0, 1) for o in (2, 3)]


def test_one_byte_tells_them_apart():
    legs = [
        leg("inside", (12, 1800), (10, 4000)),
        leg("inside", (12, 1801), (10, 4000)),
        leg("outside", (12, 1801), (10, 4000)),
        leg("outside", (12, 1800), (10, 4000)),
    ]
    assert pairs(*legs) == [(0, 3, 1, "same-sizes", 0.95), (1, 2, 1, "same-sizes", 0.95)]


@pytest.mark.parametrize(
    "other", [{"remote": ("203.0.113.6", 443)}, {"remote": ("203.0.113.5", 80)}, {"gateway": "eni-2"}, {"outward": False}]
)
def test_never_across(other):
    legs = (leg("inside", (12, 1800), (10, 4000)), leg("outside", (12, 1800), (10, 4000), **other))
    assert pairs(*legs) == [(0, -1, 0, "unpaired", 0.0)]


def test_a_nat_port_used_again_later():
    legs = [leg(side, (12, 1800), (10, 4000), start=start, end=start + 60) for start in (0, 1000) for side in ("inside", "outside")]
    assert pairs(*legs) == [(0, 1, 1, "same-sizes", 0.95), (2, 3, 1, "same-sizes", 0.95)]


def test_legs_that_start_together_and_end_apart():
    legs = [leg(side, (12, 1800), (10, 4000), end=end) for end in (60, 900) for side in ("inside", "outside")]
    assert pairs(*legs) == [(0, 1, 1, "same-sizes", 0.95), (2, 3, 1, "same-sizes", 0.95)]


def test_a_reset_seen_on_one_leg_only():
    legs = (leg("inside", (13, 1840), (10, 4000)), leg("outside", (12, 1800), (10, 4000)))
    assert pairs(*legs) == [(0, 1, 1, "time-alone", 0.8)]


def test_nat64_compares_packets_only():
    legs = (leg("inside", (12, 2040), (10, 4200), nat64=True), leg("outside", (12, 1800), (10, 4000), nat64=True))
    assert pairs(*legs) == [(0, 1, 1, "same-sizes", 0.95)]


def test_an_outside_leg_alone_is_no_mapping():
    assert pairs(leg("outside", (1, 40), (0, 0), outward=False)) == []


def test_three_inside_two_outside_alike():
    legs = [leg(side, (12, 1800), (10, 4000)) for side in ("inside",) * 3 + ("outside",) * 2]
    assert {confidence for *_, confidence in pairs(*legs)} == {0.333}
