"""Community IDs against published ones."""

import pyarrow as pa
import pytest

from flowlog_udfs.community_id import community_ids


def one(
    source: str | None, target: str | None, protocol: int | None, first: int | None = None, second: int | None = None, seed: int = 0
) -> str | None:
    columns = {"initiator_addr": [source], "responder_addr": [target]}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for name, value in (("initiator_port", first), ("responder_port", second), ("protocol", protocol)):
        table = table.append_column(name, pa.array([value], pa.int32()))
    return community_ids(table, seed).to_pylist()[0]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    "source, target, protocol, first, second, expected",
    [
        # From the specification's baseline, and for the rest from its reference implementation in Python (communityid 1.5).
        ("128.232.110.120", "66.35.250.204", 6, 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        ("192.168.1.52", "8.8.8.8", 17, 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        ("2001:db8::5", "2001:db8::77", 6, 443, 50000, "1:Q1pNbfgUspRDdecuD0Gn6fTfHU0="),
        ("10.0.0.9", "10.0.0.9", 17, 9, 8, "1:jazOCflW3h7QhXuBwnESK85MVE0="),
        ("192.0.2.1", "203.0.113.200", 132, 80, 11451, "1:wORSWjiD2+1GgI+FnVysqtcya+o="),
        ("10.0.0.2", "10.0.0.1", 47, None, None, "1:+KlEHDT0vJgzs/eNmzHq0aSpRYw="),
    ],
)
def test_published_ids(source: str, target: str, protocol: int, first: int, second: int, expected: str, swapped: bool) -> None:
    ends = (target, source, protocol, second, first) if swapped else (source, target, protocol, first, second)
    assert one(*ends) == expected


def test_another_seed_gives_another_id() -> None:
    assert one("128.232.110.120", "66.35.250.204", 6, 34855, 80, seed=1) == "1:3V71V58M3Ksw/yuFALMcW0LAHvc="


def test_what_has_no_id() -> None:
    assert one("10.0.0.1", "10.0.0.2", 1, 0, 0) is None
    assert one("::1", "fe80::1", 58, 0, 0) is None
    assert one("10.0.0.1", None, 6, 1, 2) is None
    assert one("10.0.0.1", "10.0.0.2", None, 1, 2) is None


def test_rows_keep_their_places() -> None:
    table = pa.table(
        {
            "initiator_addr": ["10.0.0.1", "128.232.110.120", "10.0.0.1"],
            "initiator_port": pa.array([1, 34855, 1], pa.int32()),
            "responder_addr": ["10.0.0.2", "66.35.250.204", "10.0.0.2"],
            "responder_port": pa.array([2, 80, 2], pa.int32()),
            "protocol": pa.array([6, 6, 6], pa.int32()),
        }
    )
    found = community_ids(table).to_pylist()
    assert found[1] == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    assert found[0] == found[2] != found[1]
