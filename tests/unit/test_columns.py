"""The vocabulary of the kernels, where it is easily misread."""

import numpy as np
import pytest

from flowlog_udfs.columns import sort_by


@pytest.mark.parametrize("wide", [[2**64 - 1, 0, 2**63], [5, 5, 5], [7, 6, 5]])
@pytest.mark.parametrize("other", [[1, 1, 1], [3, 1, 2], [-(2**62), 2**62, 0]])
def test_hashes_sort_beside_numbers_of_any_range(wide: list[int], other: list[int]) -> None:
    hashes, numbers = np.array(wide, np.uint64), np.array(other, np.int64)
    assert sort_by(hashes, numbers).tolist() == sorted(range(3), key=lambda row: (wide[row], other[row]))
    assert sort_by(numbers, hashes).tolist() == sorted(range(3), key=lambda row: (other[row], wide[row]))
