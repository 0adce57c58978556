"""What a user of any engine knows of a day of flow logs: where its objects lie, its fields and their types, when it begins and ends."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

INT = frozenset({"version", "srcport", "dstport", "protocol", "tcp_flags", "traffic_path"})
BIGINT = frozenset({"packets", "bytes", "start", "end"})
TASKS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class DayOfLogs:
    """The objects of a source; `columns` are the fields in their order, with `_` for `-`."""

    source: Path
    objects: tuple[Path, ...]
    day: date
    columns: tuple[str, ...]

    @classmethod
    def below(cls, source: Path) -> DayOfLogs:
        """Lists a source and reads the header of its first object; a Parquet source has no header line and its columns are left empty."""
        objects = tuple(sorted(path for path in (source / "AWSLogs").rglob("*") if path.name.endswith((".log.gz", ".log.parquet"))))
        year, month, day = (int(part) for part in objects[0].parts[-4:-1])
        columns: tuple[str, ...] = ()
        if objects[0].suffix == ".gz":
            with gzip.open(objects[0], "rt", encoding="utf-8") as lines:
                columns = tuple(lines.readline().replace("-", "_").split())
        return cls(source, objects, date(year, month, day), columns)

    @property
    def is_parquet(self) -> bool:
        """Whether the objects are Parquet."""
        return self.objects[0].suffix == ".parquet"

    @property
    def pattern(self) -> str:
        """A glob of all objects, for engines that list by themselves."""
        return str(self.source / "AWSLogs" / "**" / f"*{self.objects[0].suffix}")

    @property
    def begin(self) -> int:
        """The day's midnight, Unix seconds."""
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=timezone.utc).timestamp())

    @property
    def end(self) -> int:
        """The next midnight, Unix seconds."""
        return self.begin + int(timedelta(days=1).total_seconds())


def sort_of(column: str) -> str:
    """`int`, `bigint` or `text`."""
    return "int" if column in INT else "bigint" if column in BIGINT else "text"


def arguments(argv: Sequence[str] | None = None) -> tuple[str, DayOfLogs, Path]:
    """The task, its day, and the folder of its results, with the task's own folders in it."""
    parser = argparse.ArgumentParser(description="one task of the comparison, see tests/benchmarks/peers/__init__.py")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args(argv)
    for name in "abc" if given.task == "d" else given.task:
        (given.output / name).mkdir(parents=True)
    return given.task, DayOfLogs.below(given.source), given.output
