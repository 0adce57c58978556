"""Redelivered objects: hashes of rows, sketches of objects, suspected pairs, and the rule itself against one that counts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs import blocks
from flowlog_udfs.columns import mixed
from flowlog_udfs.fields import FIELDS, TGW_FIELDS
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.objects import OBJECT_COLUMNS, ObjectRow
from flowlog_udfs.records import RECORDS
from flowlog_udfs.redelivery import SKETCH_ROWS, redelivered, row_hashes, sketch, suspects
from tests.unit.analysing import table_of
from tests.unit.reading import ANNOUNCED, SSH_REPLY, SSH_REQUEST, lines, parquet, read

RECORD = {field.column: field.name if field.type == "STRING" else place for place, field in enumerate(FIELDS)}
NODATA = {"interface_id": "eni-1", "start": 60, "end": 120, "log_status": "NODATA"}
Contents = Mapping[str, Sequence[int]]


# Hashes of rows


@pytest.mark.parametrize("name", [field.column for field in FIELDS])
def test_one_field_tells_rows_apart(name):
    # The value and one beside it; the value that is most like none; none.
    variants = [RECORD[name], "other", "", None] if isinstance(RECORD[name], str) else [RECORD[name], RECORD[name] + 1000, 0, None]
    if RECORD[name] == 0:
        variants = [0, 1, None]
    assert len(set(row_hashes(table_of([RECORD | {name: value} for value in variants])).tolist())) == len(variants)


def test_values_that_change_places_tell_rows_apart():
    swaps = [("srcaddr", "dstaddr"), ("srcport", "dstport"), ("packets", "bytes"), ("start", "end"), ("vpc_id", "subnet_id")]
    swapped = [RECORD | {one: RECORD[other], other: RECORD[one]} for one, other in swaps]
    # An empty field beside a full one is not the other way round either.
    apart = [RECORD | {"srcaddr": "", "dstaddr": None}, RECORD | {"srcaddr": None, "dstaddr": ""}]
    assert len(set(row_hashes(table_of([RECORD, *swapped, *apart])).tolist())) == len(swaps) + 3


def test_what_names_the_object_is_no_content():
    moment = datetime(2026, 3, 2, tzinfo=timezone.utc)
    named = RECORD | {"object_key": "b", "flow_log_id": "fl-2", "start_time": moment, "end_time": moment}
    one, other = row_hashes(table_of([RECORD, named]))
    assert one == other


def test_fields_of_a_later_release_are_content():
    variants = [None, {}, {"new": "1"}, {"new": "2"}, {"newer": "1"}, {"new": "1", "newer": "2"}, {"new": "2", "newer": "1"}]
    found = row_hashes(table_of([RECORD | {"extra_fields": value and list(value.items()) if value else value} for value in variants]))
    assert len(set(found.tolist())) == len(variants)
    in_turn = [[("new", "1"), ("newer", "2")], [("newer", "2"), ("new", "1")]]
    assert len(set(row_hashes(table_of([RECORD | {"extra_fields": value} for value in in_turn])).tolist())) == 1


SOME_RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "interface_id": st.sampled_from(["eni-1", "eni-2", ""]),
            "srcaddr": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            "srcport": st.integers(0, 2),
            "bytes": st.integers(0, 2**63 - 1),
            "start": st.integers(0, 2),
            "extra_fields": st.sampled_from([[], [("new", "1")], [("new", "1"), ("newer", "2")]]),
        },
    ),
    min_size=1,
    max_size=8,
)


@given(SOME_RECORDS)
def test_a_rows_hash_is_its_own(records):
    """Whatever rows it is read with, and however they are held: nulls of others, codes of texts, slices and chunks make no difference."""
    together = table_of(records)
    found = row_hashes(together).tolist()
    assert found == [row_hashes(table_of([record]))[0] for record in records]
    assert found[::-1] == row_hashes(table_of(records[::-1])).tolist()
    assert found[1:] == row_hashes(together.slice(1)).tolist()
    assert found == row_hashes(pa.concat_tables([table_of([record]) for record in records])).tolist()
    contents = [tuple(sorted((name, repr(value)) for name, value in record.items())) for record in records]
    assert len(set(found)) == len(set(contents))


def test_no_rows_have_no_hashes():
    assert row_hashes(RECORDS.empty_table()).tolist() == []


def test_hashes_are_the_same_on_every_machine():
    # Tables keep sketches, which other machines compare with theirs. Worked out in plain integers, without numpy.
    assert row_hashes(table_of([RECORD, NODATA])).tolist() == [17188223668323904525, 591723940110531644]


# Sketches


@given(st.lists(st.lists(st.integers(0, 40)), max_size=6))
def test_a_sketch_is_of_the_least_distinct_hashes_however_rows_come(chunks):
    found: list[int] = []
    for chunk in chunks:
        found = sketch(_hashes(chunk), found)
    distinct = sorted({int(one) for chunk in chunks for one in _hashes(chunk)})[:SKETCH_ROWS]
    assert np.array(found, np.int64).view(np.uint64).tolist() == distinct


@pytest.mark.parametrize("alphabet", [1, SKETCH_ROWS - 1, 100, 1_000_000])
def test_a_sketch_of_many_rows(alphabet):
    chunks = np.random.default_rng(1).integers(0, alphabet, (5, 3000))
    found: list[int] = []
    for chunk in chunks:
        found = sketch(_hashes(chunk), found)
    distinct = np.unique(_hashes(chunks.reshape(-1)))[:SKETCH_ROWS]
    assert np.array(found, np.int64).view(np.uint64).tolist() == distinct.tolist()


# The rule


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param({"a": range(20), "b": range(20)}, {"b": Counter(range(20))}, id="the same object under two hashes"),
        pytest.param({"b": range(20), "a": range(20)}, {"b": Counter(range(20))}, id="the greater key yields, whichever comes first"),
        pytest.param({"a": range(20), "b": range(22)}, {"b": Counter(range(20))}, id="some rows more: those are new"),
        pytest.param({"a": range(22), "b": range(20)}, {"b": Counter(range(20))}, id="some rows fewer"),
        pytest.param({"a": range(9), "b": range(10)}, {"b": Counter(range(9))}, id="just 90 % of the larger"),
        pytest.param({"a": range(89), "b": range(100)}, {}, id="just below 90 % of the larger"),
        pytest.param({"a": range(100), "b": range(5, 105)}, {"b": Counter(range(5, 100))}, id="rows of its own on either side"),
        pytest.param({"a": range(100), "b": [7]}, {}, id="a small object with a row of a large one"),
        pytest.param({"a": [7], "b": range(100)}, {}, id="a large object with the row of a small one"),
        pytest.param({"a": [7], "b": [7]}, {"b": Counter([7])}, id="one row each"),
        pytest.param({"a": [7] * 20}, {}, id="equal rows of one object"),
        pytest.param({"a": [7] * 9 + [1], "b": [7] * 10}, {"b": Counter([7] * 9)}, id="the tenth copy is new"),
        pytest.param({"a": [7] * 10, "b": [7] * 5}, {}, id="copies count"),
        pytest.param({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, {"b": Counter([1, 2]), "c": Counter([1, 2])}, id="three times"),
        # 10 of a's 100 rows are no longer in c; each is one delivery with b.
        pytest.param(
            {"a": range(100), "b": range(8, 108), "c": range(16, 116)},
            {"b": Counter(range(8, 100)), "c": Counter(range(16, 108))},
            id="a chain: judged pair by pair",
        ),
        pytest.param({}, {}, id="no rows"),
    ],
)
def test_the_rule_by_example(contents, expected):
    assert _marked(contents) == expected
    assert _by_counting(contents)[0] == expected


OBJECTS = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(0, 3), min_size=1, max_size=24), max_size=5)


@st.composite
def deliveries(draw: st.DrawFn) -> dict[str, list[int]]:
    """Objects of few different rows, most of them some other object with a few rows changed: near the bound of 90 %."""
    contents: dict[str, list[int]] = {}
    for key in draw(st.permutations("abcde")):
        rows = list(draw(st.sampled_from(list(contents.values())))) if contents else draw(st.lists(st.integers(0, 30), max_size=40))
        rows = rows[draw(st.integers(0, 3)) :] + draw(st.lists(st.integers(0, 30), min_size=not rows, max_size=3))
        contents[key] = rows or [0]
    return contents


@st.composite
def many_copies(draw: st.DrawFn) -> dict[str, list[int]]:
    """Objects that share little but one row, of which each has many copies."""
    own = st.lists(st.integers(0, 30), max_size=5)
    return {key: [7] * draw(st.integers(35, 40)) + draw(own) for key in "abc"}


@given(st.one_of(OBJECTS, deliveries(), many_copies()), st.randoms(use_true_random=False))
def test_the_rule_is_that_of_counting(contents, chance):
    expected, _ = _by_counting(contents)
    assert _marked(contents) == expected
    assert _marked(contents, chance) == expected


@given(deliveries())
def test_some_objects_are_redelivered_here(contents):
    """The first object under a greater key is all redelivered: what the properties above draw does reach the rule."""
    first = next(iter(contents))
    assert _marked({**contents, "z": contents[first]})["z"] == Counter(contents[first])


# Suspects


@given(st.one_of(OBJECTS, deliveries(), many_copies()), st.integers(1, 5))
def test_no_pair_of_small_objects_is_missed(contents, chunk):
    """Rows are taken from `SKETCH_ROWS` different ones, so that sketches are whole: then no pair at all may be missed."""
    contents = {key: [row % SKETCH_ROWS for row in rows] for key, rows in contents.items()}
    groups = suspects((key, "fl", len(rows), _sketched(rows, chunk)) for key, rows in contents.items())
    for one, other in _by_counting(contents)[1]:
        assert any({one, other} <= set(group) for group in groups), (one, other)
    # What is not suspected need not be compared.
    apart = [{key: contents[key] for key in group} for group in groups]
    found: dict[str, Counter[int]] = {}
    for group in apart:
        found |= _marked(group)
    assert found == _by_counting(contents)[0]


@pytest.mark.parametrize("rows", [17, 100, 3000])
@pytest.mark.parametrize("copies", [1, 2])
def test_no_pair_of_larger_objects_is_missed(rows, copies):
    """Deliveries that share just 90 %, a hundred pairs among each other: each is a group, and no group is more than its pair."""
    chance = np.random.default_rng(rows + copies)
    listed = []
    for pair in range(100):
        lacking = rows * copies // 10
        shared = np.repeat(chance.integers(0, 2**60, rows), copies)[lacking:]
        for side in "ab":
            mine = np.concatenate((shared, chance.integers(0, 2**60, lacking)))
            listed.append((f"{pair:03}{side}", "fl", len(mine), sketch(_hashes(mine))))
    chance.shuffle(listed)
    assert suspects((key, log, int(count), least) for key, log, count, least in listed) == [(f"{n:03}a", f"{n:03}b") for n in range(100)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["fl-1", "fl-2"]), st.integers(1, 30), st.lists(st.integers(-9, 9), unique=True, max_size=4).map(sorted)),
        max_size=12,
    )
)
def test_groups_are_what_pairs_connect(drawn):
    """Against all pairs: one flow log, a hash in common, and numbers of records within 90 %."""
    listed = [(f"{place:02}", *one) for place, one in enumerate(drawn)]
    group = {key: {key} for key, *_ in listed}
    for one in listed:
        for other in listed:
            if one[1] == other[1] and set(one[3]) & set(other[3]) and min(one[2], other[2]) >= 0.9 * max(one[2], other[2]):
                united = group[one[0]] | group[other[0]]
                group.update(dict.fromkeys(united, united))
    expected = {tuple(sorted(united)) for united in group.values() if len(united) > 1}
    assert suspects(listed) == sorted(expected)
    assert suspects(listed[::-1]) == sorted(expected)


def test_one_row_of_which_each_object_has_many_copies():
    contents = {"a": [7] * 40 + [1, 2, 3, 4], "b": [7] * 40 + [11, 12, 13, 14]}
    assert suspects((key, "fl", 44, _sketched(rows, 10)) for key, rows in contents.items()) == [("a", "b")]
    assert _marked(contents) == {"b": Counter([7] * 40)}


def test_many_objects_with_the_same_rows():
    # All pairs would be 200 million.
    least = list(range(SKETCH_ROWS))
    (group,) = suspects((f"{place:05}", "fl", 100 + place % 5, least) for place in range(20_000))
    assert len(group) == 20_000


@pytest.mark.parametrize(("fewer", "more", "is_suspected"), [(9, 10, True), (90, 100, True), (89, 100, False), (8, 9, False), (1, 1, True)])
def test_numbers_of_records_decide_at_90_percent(fewer, more, is_suspected):
    assert suspects([("a", "fl", more, [5]), ("b", "fl", fewer, [5])]) == ([("a", "b")] if is_suspected else [])


def test_objects_without_a_sketch_are_no_suspects():
    # Transit Gateway objects, failed ones, and tables of a release that made no sketches.
    assert suspects([("a", "fl", 3, []), ("b", "fl", 3, []), ("c", "fl", 3, None)]) == []
    assert suspects([]) == []


# While objects are read


@pytest.fixture
def reads(tmp_path):
    return partial(read, folder=tmp_path)


def test_a_read_object_has_the_sketch_of_its_rows(reads):
    reading = reads(lines(SSH_REPLY, SSH_REQUEST, SSH_REPLY))
    records = [record | {"extra_fields": None} for record in reading.records]
    assert reading.row.row_sketch == sketch(row_hashes(table_of(records)))
    assert len(reading.row.row_sketch) == 2


@pytest.mark.parametrize("block_bytes", [64, 200, 1000, 1 << 20])
def test_the_sketch_does_not_depend_on_blocks(reads, monkeypatch, block_bytes):
    tokens = dict.fromkeys(ANNOUNCED.names, "-") | {
        "interface-id": "eni-1",
        "start": "1566328660",
        "end": "1566328720",
        "log-status": "NODATA",
    }
    content = lines(SSH_REPLY, *(" ".join((tokens | {"end": str(1566328720 + n)}).values()) for n in range(20)), SSH_REQUEST)
    whole = reads(content)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    assert reads(content).row.row_sketch == whole.row.row_sketch
    assert len(whole.row.row_sketch) == SKETCH_ROWS


def test_the_sketch_does_not_depend_on_the_file_format(reads):
    values = dict(zip(ANNOUNCED.names, SSH_REPLY.split(), strict=True))
    types = {field.name: pa.string() if field.type == "STRING" else pa.int64() for field in FIELDS}
    columns = {name.replace("-", "_"): pa.array([value]).cast(types[name]) for name, value in values.items()}
    assert reads(parquet(columns), zipped=False).row.row_sketch == reads(lines(SSH_REPLY)).row.row_sketch != []


def test_transit_gateway_rows_and_failed_objects_have_no_sketch(reads):
    values = {"start": "1566328660", "end": "1566328672", "srcaddr": "10.0.0.1", "dstaddr": "10.1.0.1", "log-status": "OK", "type": "IPv4"}
    line = " ".join((values | {"flow-direction": "ingress"}).get(field.name, "5") for field in TGW_FIELDS)
    reading = reads(lines(line, header=LogFormat(tuple(field.name for field in TGW_FIELDS))))
    assert (reading.row.records, reading.row.row_sketch) == (1, [])
    whole = reads(lines(SSH_REPLY)).row
    assert whole.row_sketch
    whole.fail("damaged")
    assert whole.row_sketch == []


def test_a_sketch_goes_through_the_table(reads):
    row = reads(lines(SSH_REPLY, SSH_REQUEST)).row
    stored = pa.Table.from_pylist([row.to_dict()], OBJECT_COLUMNS)
    assert OBJECT_COLUMNS.names[-1] == "row_sketch"
    assert ObjectRow.from_dict(stored.to_pylist()[0]) == row


def _hashes(rows: Any) -> np.ndarray:
    """Different rows' hashes, as different as those of records."""
    return mixed(np.array(rows, np.int64))


def _sketched(rows: Sequence[int], chunk: int) -> list[int]:
    found: list[int] = []
    for begin in range(0, len(rows), chunk):
        found = sketch(_hashes(rows[begin : begin + chunk]), found)
    return found


def _marked(contents: Contents, chance: random.Random | None = None) -> dict[str, Counter[int]]:
    """How often each row of each object is redelivered, the rows of all objects in one order or in any."""
    keys = list(contents)
    rows = [(place, row) for place, key in enumerate(keys) for row in contents[key]]
    if chance:
        chance.shuffle(rows)
    of_object = np.array([place for place, _ in rows], np.int64)
    flags = redelivered(_hashes([row for _, row in rows]), of_object, keys)
    found: dict[str, Counter[int]] = {}
    for (place, row), flag in zip(rows, flags, strict=True):
        if flag:
            found.setdefault(keys[place], Counter())[row] += 1
    return found


def _by_counting(contents: Contents) -> tuple[dict[str, Counter[int]], list[tuple[str, str]]]:
    """The rule in its own words: the rows of each object that are redelivered, and the pairs that are one delivery."""
    counts = {key: Counter(rows) for key, rows in contents.items()}
    found: dict[str, Counter[int]] = {}
    pairs = []
    for later in sorted(counts):
        for earlier in sorted(counts):
            common = counts[later] & counts[earlier]
            if earlier < later and 10 * common.total() >= 9 * max(counts[later].total(), counts[earlier].total()):
                pairs.append((earlier, later))
                # Redelivered by any one of them: of each row as many copies as the one holds that holds most.
                found[later] = found.get(later, Counter()) | common
    return found, pairs
