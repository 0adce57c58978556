"""Whether tables of a day were made of one another, which no commit can see to: each replaces one table.

What a day of a table was made from (`flowlog.inputs` of its commit) is a path of digests: that of the tables it was made of goes before its
own. Tables agree if all their paths lie on one, and `TWINS` if they are on the same: a step made them together. Tables of Parquet keep no
such notes, so nothing is known of them.

>>> on_one_path({"records": "a", "connections": "a/b", "findings": "a/b/c"}), on_one_path({"records": "d", "connections": "a/b"})
(True, False)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from flowlog_udfs.errors import StorageError
from flowlog_udfs.tables import Table, Warehouse

TWINS = ("connections", "nat_mappings")
"""What step map_nat makes together, if only pairs tell of some connections what is behind a NAT."""
MARKED = "marked"
"""What it puts at the end of both their paths then: connections that were attributed anew since are without it."""


def agreed_inputs(warehouse: Warehouse, day: date, tables: Sequence[Table]) -> str:
    """The longest path of the tables that have the day; empty for none.

    Raises `StorageError` where one was made of something else: another run of the day is at work, or one was stopped.
    """
    found = {table.name: origin.inputs for table in tables if (origin := warehouse.origin(table, day))}
    twins = {name: found[name] for name in TWINS if name in found}
    apart = found if not on_one_path(found) else twins if len(set(twins.values())) > 1 else {}
    if apart:
        groups: dict[str, list[str]] = {}
        for name, path in apart.items():
            groups.setdefault(path, []).append(name)
        first, other = ("/".join(names) for names in list(groups.values())[:2])
        raise StorageError(f"{day}: tables {first} and {other} are of different runs, of which one works or was stopped; run the day again")
    return max(found.values(), key=len, default="")


def attributed(path: str) -> str:
    """The path of connections before they were marked: the next day leans on what was attributed, and marks change nothing of that."""
    return path.removesuffix(f"/{MARKED}")


def on_one_path(paths: Mapping[str, str]) -> bool:
    """Whether each path goes on where a shorter one ends."""
    longest = max(paths.values(), key=len, default="")
    return all(f"{longest}/".startswith(f"{path}/") for path in paths.values())
