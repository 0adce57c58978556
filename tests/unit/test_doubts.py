"""What is in doubt of a day after its run: by the day itself, and, for many days at once and with hardly a file read, by the ledger."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.doubts import doubts, provisional_note, stale_note
from flowlog_udfs.ingest import OBJECTS
from flowlog_udfs.ledger import Doubts, ledger
from flowlog_udfs.tables import Warehouse

DAY, NOW = date(2026, 3, 10), datetime(2026, 3, 11, 8, tzinfo=timezone.utc)
NEXT = DAY + timedelta(days=1)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(str(tmp_path))


def read_until(warehouse: Warehouse, day: date, *times: str, other: dict[date, int] | None = None) -> None:
    """A run of `day` whose objects were published at `times` (`11T0205`)."""
    rows = [
        {"key": text, "published_at": datetime.strptime(f"202603{text}+0000", "%Y%m%dT%H%M%z"), "other_days": list((other or {}).items())}
        for text in times
    ]
    parts = warehouse.write_rows(OBJECTS, day, pa.Table.from_pylist(rows, OBJECTS.schema))
    warehouse.replace_day(OBJECTS, day, parts, inputs="i", now=NOW)


@pytest.mark.parametrize(
    "times, told",
    [
        ([], "2026-03-11 was not read yet; its run names rows of this day that were delivered late."),
        (["11T0005", "11T0155"], "2026-03-11 was not read whole yet, only up to what was delivered at 01:55 UTC of 2026-03-11"),
        (["11T0005", "11T0200"], None),
        (["12T0010"], None),
    ],
)
def test_a_day_is_provisional_until_the_next_ones_head_was_read(warehouse: Warehouse, times: list[str], told: str | None) -> None:
    if times:
        read_until(warehouse, NEXT, *times)
    note = provisional_note(warehouse, DAY, 2)
    assert note is None if told is None else note is not None and note.startswith(told)


def test_late_rows_are_told_before_how_far_the_next_day_was_read(warehouse: Warehouse) -> None:
    read_until(warehouse, NEXT, "11T0005", "12T0010", other={DAY: 3})
    assert (
        provisional_note(warehouse, DAY, 2) == "3 rows of this day were delivered later than its run looks; run the day again to hold them."
    )


LATE_HOURS = 2


def delivered(
    warehouse: Warehouse, day: date, *hours: float, late: Sequence[tuple[date, int, str]] = (), carried: str | None = None
) -> None:
    """A run of `day`: objects published so many hours after its midnight, each named by its hour, and one more for each (day, rows, key)
    that came late, five hours after it; `carried` is what it says of the day before.
    """
    begin = datetime.combine(day, datetime.min.time(), timezone.utc)
    rows = [{"key": f"{day} {hour}", "published_at": begin + timedelta(hours=hour), "other_days": []} for hour in hours]
    rows += [{"key": key, "published_at": begin + timedelta(hours=5), "other_days": [(of, count)]} for of, count, key in late]
    for table, content in ((OBJECTS, rows), (COVERAGE_TABLE, [{"late_records": sum(count for _, count, _ in late)}])):
        parts = warehouse.write_rows(table, day, pa.Table.from_pylist(content, table.schema))
        warehouse.replace_day(table, day, parts, inputs=f"{day}", now=NOW)
    warehouse.replace_day(CONNECTIONS_TABLE, day, [], inputs=f"made {day}", now=NOW, carried_from=carried)


def nights(warehouse: Warehouse, count: int, left_out: int | None = None) -> list[date]:
    """Days that a nightly job has run, each once and whole, the last of them `DAY`; one may be left out."""
    days = [DAY - timedelta(days=number) for number in range(count) if number != left_out][::-1]
    for before, day in zip([None, *days], days, strict=False):
        delivered(warehouse, day, 1, 25.9, carried=before and f"made {before}")
    return days


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of part files that are opened from now on."""
    keys: list[str] = []
    rows = Warehouse.rows

    def noted(self: Warehouse, table: object, wanted: Sequence[str], columns: object) -> object:
        wanted = list(wanted)
        keys.extend(wanted)
        return rows(self, table, wanted, columns)  # type: ignore[arg-type]

    monkeypatch.setattr(Warehouse, "rows", noted)
    return keys


def test_a_nightly_jobs_days_are_settled_by_the_night_after(warehouse: Warehouse, opened: list[str]) -> None:
    days = nights(warehouse, 90)
    found = doubts(warehouse, days, LATE_HOURS)
    assert opened == []  # the tables' logs tell it all
    assert [found[day] for day in days[:-1]] == [Doubts()] * 89
    assert found[DAY] == Doubts(f"{NEXT} was not read yet; its run names rows of this day that were delivered late.")


def test_a_next_day_that_was_read_in_part_settles_nothing(warehouse: Warehouse, opened: list[str]) -> None:
    nights(warehouse, 1)
    delivered(warehouse, NEXT, 1)
    found = doubts(warehouse, [DAY], LATE_HOURS)[DAY]
    assert str(found.provisional).startswith(f"{NEXT} was not read whole yet, only up to what was delivered at 01:00 UTC of {NEXT}")
    assert opened == []


@pytest.mark.parametrize("nights_later", [1, 2])
def test_rows_that_came_late_put_a_settled_day_in_doubt_until_it_holds_them(
    warehouse: Warehouse, opened: list[str], nights_later: int
) -> None:
    days = nights(warehouse, 30)
    of = DAY - timedelta(days=nights_later)
    delivered(warehouse, DAY, 1, 25.9, late=[(of, 3, "late one"), (of, 2, "late two")], carried=f"made {days[-2]}")
    told = doubts(warehouse, days, LATE_HOURS)
    assert told[of] == Doubts("5 rows of this day were delivered later than its run looks; run the day again to hold them.")
    assert {day for day in days if told[day] != Doubts()} == {of, DAY}
    assert len(opened) <= 4  # of the days at hand, each once
    rows = [(of, 0, "late one")]  # the day's next run reads one of the two objects; who named its rows still does
    delivered(warehouse, of, 1, 25.9, late=rows, carried=f"made {of - timedelta(days=1)}")
    assert str(doubts(warehouse, days, LATE_HOURS)[of].provisional).startswith("2 rows of this day")


def test_a_day_made_anew_makes_the_next_one_stale_until_that_is_made_anew(warehouse: Warehouse) -> None:
    days = nights(warehouse, 20)

    def made_anew(day: date, inputs: str, carried: str) -> list[str]:
        warehouse.replace_day(CONNECTIONS_TABLE, day, [], inputs=inputs, now=NOW, carried_from=carried)
        return [f"{day}: {told.stale}" for day, told in doubts(warehouse, days, LATE_HOURS).items() if told.stale]

    told = "was worked out anew after this day, which leans on it; run this day again."
    assert made_anew(days[5], "anew", f"made {days[4]}") == [f"{days[6]}: {days[5]} {told}"]
    assert made_anew(days[6], "anew too", "anew") == [f"{days[7]}: {days[6]} {told}"]
    assert made_anew(days[7], f"made {days[7]}", "anew too") == []
    assert made_anew(days[7], f"made {days[7]}/marked", "anew too") == []  # marks change nothing that a day leans on


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_the_ledger_says_of_each_day_what_the_day_would_say_of_itself(tmp_path: Path, table_format: str) -> None:
    warehouse = Warehouse.open(str(tmp_path), table_format)
    days = nights(warehouse, 12, left_out=5)
    delivered(warehouse, days[2], 1, carried="something else")
    delivered(warehouse, days[4], 25.9, late=[(days[3], 1, "late"), (days[2], 4, f"{days[2]} 1"), (NEXT, 9, "odd")])
    delivered(warehouse, days[9], 1, 30, late=[(days[7], 1, "late")])
    found = doubts(warehouse, days, LATE_HOURS)
    assert found == {day: Doubts(provisional_note(warehouse, day, LATE_HOURS), stale_note(warehouse, day)) for day in days}
    assert len({str(told.provisional)[10:] for told in found.values()}) > 3
    assert any(told.stale for told in found.values()) is (table_format == "delta")


def test_the_ledger_has_what_is_in_doubt_now_and_not_what_was() -> None:
    run = dict.fromkeys(("complete", "outcome", "open")) | {"version": 1, "digest": "d", "provisional": "then", "stale": "then"}
    before = DAY - timedelta(days=1)
    rows = ledger({DAY: [run]}, {}, {DAY: Doubts(None, "now")}, DAY, 2)
    assert [(row["day"], row["digest"], row["provisional"], row["stale"]) for row in rows] == [
        (DAY, "d", None, "now"),
        (before, None, None, None),
    ]
