"""Mutated lines: every one accounted for, and the kernel's answer that of the reference."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np
import pytest
from fuzzing.mutations import BEGIN, FORMATS, good_lines, mutated
from reference.lines import Content, Values, read_content

from flowlog_udfs.errors import ObjectError
from flowlog_udfs.fields import BY_NAME
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat
from flowlog_udfs.objects import LARGEST_SUM, ObjectRow, ReadPlan, read_object

PUBLISHED = datetime(2026, 3, 10, 0, 5, tzinfo=timezone.utc)
DAY = PUBLISHED.date()
SECONDS_A_LINE = 0.002


class Held:
    """A storage that holds one object."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def open(self, key: str, etag: str | None = None) -> io.BytesIO:
        return io.BytesIO(self.content)


def read(content: bytes, plan: LogFormat | None) -> tuple[ObjectRow, Counter[Values], list[tuple[int, str, str]]]:
    """An object's row, its records of the day, and its rejects."""
    row = ObjectRow("object", "", len(content), PUBLISHED, "123456789012", "us-east-1", "fl-1", PUBLISHED, "plain")
    records: Counter[Values] = Counter()
    rejects: list[tuple[int, str, str]] = []
    try:
        for chunk in read_object(Held(content), row, ReadPlan(DAY, {"fl-1": plan} if plan else {}, DEFAULT_FORMAT, 1 << 40)):
            rejects += [tuple(one) for one in chunk.rejects]
            if chunk.rows is not None:
                columns = {
                    name: chunk.rows.column(BY_NAME[name].column).to_pylist()
                    for name in sorted(BY_NAME)
                    if BY_NAME[name].column in chunk.rows.column_names
                    and chunk.rows.column(BY_NAME[name].column).null_count < chunk.rows.num_rows
                }
                extra = chunk.rows.column("extra_fields").to_pylist()
                for at, others in enumerate(extra):
                    values = [(name, column[at]) for name, column in columns.items() if column[at] is not None]
                    records[tuple(sorted(values + (others or [])))] += 1
    except ObjectError as error:
        row.fail(str(error))
        return row, Counter(), []
    return row, records, sorted(rejects)


def day_of(values: Values) -> int:
    told = dict(values)
    seconds = told.get("start", told.get("end"))
    return (BEGIN if seconds is None else int(seconds)) // 86_400


def check(content: bytes, plan: LogFormat | None, expected: Content) -> None:
    began = time.process_time()
    row, records, rejects = read(content, plan)
    took = time.process_time() - began
    wanted = Counter(values for values in expected.records if day_of(values) == BEGIN // 86_400)
    sums = {name: sum(int(dict(values).get(name, 0)) * times for values, times in wanted.items()) for name in ("bytes", "packets")}
    if not expected.is_flow_log or not (expected.headers or expected.records) or max(sums.values()) > LARGEST_SUM:
        assert row.status == "failed" and row.error
        assert (row.lines, row.headers, row.blank, row.records, row.rejects, row.other_day, row.bytes) == (0,) * 7
        return
    assert row.error is None
    assert row.lines == row.headers + row.blank + row.records + row.rejects + row.other_day
    assert rejects == expected.rejects
    assert (row.lines, row.headers, row.blank) == (expected.lines, expected.headers, expected.blank)
    assert records == wanted
    assert (row.records, row.other_day) == (wanted.total(), len(expected.records) - wanted.total())
    assert {"bytes": row.bytes, "packets": row.packets} == sums
    assert took < 1 + SECONDS_A_LINE * row.lines


@pytest.mark.slow
def test_mutated_lines_are_what_the_reference_says(soak: bool, tried: Callable[[str, int], None]) -> None:
    wanted, done, number = 10_000_000 if soak else 1_000_000, 0, 0
    while done < wanted:
        seed = np.random.default_rng(number)
        log_format = FORMATS[number % len(FORMATS)]
        lines = good_lines(seed, log_format, int(seed.choice([1, 20, 2_000, 5_000])))
        for _ in range(5):
            content = mutated(seed, lines, log_format)
            plan = log_format if seed.random() < 0.9 else None
            expected = read_content(content, plan.names if plan else None, DEFAULT_FORMAT.names)
            try:
                check(content, plan, expected)
            except Exception as error:
                error.add_note(f"seed {number}")
                raise
            done += expected.lines
        number += 1
    tried("lines fuzzed, each compared with the reference", done)
