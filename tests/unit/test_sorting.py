"""Sorting by digits and telling rows apart by hashing, against Python's own sort and sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs import sorting
from flowlog_udfs.sorting import distinct, sort_by, unique

RANGES = ((0, 0), (-1, 1), (0, 255), (-3, 70_000), (0, 1 << 40), (-(1 << 62), 1 << 62))


@st.composite
def keys(draw):
    rows = draw(st.integers(0, 40))
    kinds = draw(st.lists(st.sampled_from(RANGES), min_size=1, max_size=4))
    return [np.array(draw(st.lists(st.integers(*kind), min_size=rows, max_size=rows)), np.int64) for kind in kinds]


@given(keys())
def test_rows_are_in_the_order_that_python_gives_them(columns):
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    # Python's sort is stable too: equal rows keep their order.
    assert sort_by(*columns).tolist() == sorted(range(len(rows)), key=rows.__getitem__)


@pytest.mark.parametrize("bits", [1, 8, 9, 16, 17, 31, 48, 49, 63])
def test_keys_of_every_width(bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, 5_000)
    assert np.array_equal(sort_by(values), np.argsort(values, kind="stable"))
    assert np.array_equal(sort_by(values % 7, values), np.lexsort((values, values % 7)))


@pytest.mark.parametrize("wide", [[2**64 - 1, 0, 2**63], [5, 5, 5], [7, 6, 5]])
@pytest.mark.parametrize("other", [[1, 1, 1], [3, 1, 2], [-(2**62), 2**62, 0]])
def test_hashes_sort_beside_numbers_of_any_range(wide: list[int], other: list[int]) -> None:
    hashes, numbers = np.array(wide, np.uint64), np.array(other, np.int64)
    assert sort_by(hashes, numbers).tolist() == sorted(range(3), key=lambda row: (wide[row], other[row]))
    assert sort_by(numbers, hashes).tolist() == sorted(range(3), key=lambda row: (other[row], wide[row]))


def test_unsigned_keys_above_all_signed_ones():
    values = np.array([1 << 63, 0, (1 << 64) - 1, 1 << 63], np.uint64)
    assert sort_by(values).tolist() == [1, 0, 3, 2]
    assert unique(values)[0].tolist() == [0, 1 << 63, (1 << 64) - 1]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_distinct_values_in_order(values):
    found, place = unique(np.array(values, np.int64))
    assert found.tolist() == sorted(set(values))
    assert found[place].tolist() == values


@pytest.mark.parametrize("dense", [1, 1 << 16])
@given(codes=st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 3_000)), min_size=1))
def test_distinct_combinations(dense, codes):
    columns = [np.array(column, np.int64) for column in zip(*codes, strict=True)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sorting, "DENSE_COMBINATIONS", dense)
        found, place = distinct(*columns)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == sorted(set(codes))
    assert [column[place].tolist() for column in found] == [column.tolist() for column in columns]
