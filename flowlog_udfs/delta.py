"""Delta tables through delta-rs: one day replaced in one commit, and the files that a snapshot holds.

delta-rs commits with a conditional put, on folders and on S3, so that of two drivers one is refused instead of losing a commit silently.
Tables keep to what every Delta reader understands: reader version 1, no deletion vectors, no column mapping.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from flowlog_udfs.errors import LostRaceError, StorageError
from flowlog_udfs.s3_faults import is_unanswered, reason

Answer = TypeVar("Answer")

COMMIT_TRIES = 8
READ_TRIES = 8
"""How often a read is tried whose answer breaks. To a request without any answer delta-rs has given its ten tries before."""
FIRST_PAUSE_SECONDS = 0.1
"""The pause after a first try without a whole answer; each one after it is twice as long."""
LOG_READERS = 8
"""Files of a table's log that are read at once."""
RETENTION_DAYS = 366
"""How long former states stay readable: the twelve months for which evidence is kept (PCI DSS 4.0.1, 10.5.1)."""
FILES_RETENTION, LOG_RETENTION = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
INPUTS_KEY = "flowlog.inputs"
"""Where a commit keeps the digest of the inputs it was made from."""
RUN_KEY = "flowlog.run_id"
"""Where a commit keeps the id of the run that made it, under which its logs and metrics are found."""
ORIGINS_KEY = "flowlog.origins"
"""Where a commit repeats, by day, the origins that commits older than the log's retention told."""
CARRIED_KEY = "flowlog.carried_from"
"""Where a commit keeps the digest of the day before, whose open connections it took over: another digest there makes the day stale."""


def replace_partition(
    uri: str,
    options: Mapping[str, str],
    schema: pa.Schema,
    day: date,
    files: Sequence[AddAction],
    inputs: str,
    carried_from: str | None = None,
    *,
    statistics: Sequence[str] = (),
    run_id: str | None = None,
    snapshot: Callable[[], DeltaTable | None] | None = None,
) -> None:
    """Make `files` the whole of the partition `day`, in one commit that carries the digest `inputs`; creates the table if need be.

    `statistics` are the columns of which files have bounds; see `properties`.

    `carried_from` is the digest of the day before, where the rows lean on it, `run_id` that of the run.

    A lost race is tried again from a fresh snapshot, never by delta-rs itself: its own retry would keep both writers' rows. So is a commit
    that got no answer, unless it turns out to have landed. With `snapshot` a lost race is lost: the files replace the day as it is there or
    not at all. Raises `StorageError` when the table cannot be committed, of the kind `LostRaceError` when other runs were faster.
    """
    notes = {INPUTS_KEY: json.dumps({str(day): inputs})} | ({CARRIED_KEY: carried_from} if carried_from else {})
    notes |= {RUN_KEY: run_id} if run_id else {}
    _commit(uri, options, schema, day, files, notes, properties(statistics), replaces=True, snapshot=snapshot)


def append_files(
    uri: str, options: Mapping[str, str], schema: pa.Schema, day: date, files: Sequence[AddAction], *, statistics: Sequence[str] = ()
) -> None:
    """Add `files` to the partition `day` in one commit; creates the table if need be. Raises `StorageError` when it cannot be committed."""
    _commit(uri, options, schema, day, files, {}, properties(statistics), replaces=False)


def properties(statistics: Sequence[str], retain_days: int = RETENTION_DAYS) -> dict[str, str]:
    """The properties of a table (Delta protocol, "Table Properties"): how long it keeps its former states, and of which columns files have
    `statistics`.

    VACUUM refuses to remove what is younger than the retention, whatever it is told. No engine cleans the log on its own: old commits tell
    what days were made from, which `delta_log.clean` keeps. Where the columns are not named readers expect some of
    the first 32; delta-rs then compares with a bound that is null, and finds no row.
    """
    named = {"delta.dataSkippingStatsColumns": ",".join(statistics)} if statistics else {"delta.dataSkippingNumIndexedCols": "0"}
    retention = f"interval {retain_days} days"
    return {FILES_RETENTION: retention, LOG_RETENTION: retention, "delta.enableExpiredLogCleanup": "false", **named}


def keep_properties(table: DeltaTable, configuration: Mapping[str, str]) -> None:
    """Set the properties of a table where they differ; a retention that is longer stays."""
    there = table.metadata().configuration
    longer = {name for name in (FILES_RETENTION, LOG_RETENTION) if interval(there.get(name, "")) > interval(configuration[name])}
    wanted = {name: value for name, value in configuration.items() if name not in longer and there.get(name) != value}
    if wanted:
        table.alter.set_table_properties(wanted)


def interval(text: str) -> timedelta:
    """A duration as table properties have it; none for what cannot be read.

    >>> interval("interval 1 week 12 hours")
    datetime.timedelta(days=7, seconds=43200)
    """
    words = text.lower().removeprefix("interval").split()
    try:
        parts = zip(words[::2], words[1::2], strict=True)
        return sum((timedelta(**{f"{unit.rstrip('s')}s": float(number)}) for number, unit in parts), timedelta())
    except (TypeError, ValueError, OverflowError):
        return timedelta()


def _commit(
    uri: str,
    options: Mapping[str, str],
    schema: pa.Schema,
    day: date,
    files: Sequence[AddAction],
    notes: dict[str, str],
    configuration: dict[str, str],
    *,
    replaces: bool,
    snapshot: Callable[[], DeltaTable | None] | None = None,
) -> None:
    properties = CommitProperties(custom_metadata=notes, max_commit_retries=0)
    columns = Schema.from_arrow(schema.append(pa.field("day", pa.date32())))
    filters = [("day", "=", str(day))] if replaces else None
    lost: Exception | None = None
    for number in range(COMMIT_TRIES):
        table = snapshot() if snapshot else open_table(uri, options)
        try:
            if table is None:
                create_table_with_add_actions(
                    uri,
                    columns,
                    list(files),
                    "error",
                    ["day"],
                    configuration=dict(configuration),
                    storage_options=dict(options),
                    commit_properties=properties,
                )
            else:
                keep_properties(table, configuration)
                mode: Literal["overwrite", "append"] = "overwrite" if replaces else "append"
                table.create_write_transaction(list(files), mode, columns, ["day"], filters, commit_properties=properties)
            return
        except (DeltaError, OSError) as error:
            lost = error
        after = open_table(uri, options)
        if after is not None and _holds(after, files):
            return  # The commit landed; its answer was lost, or what delta-rs does after a commit failed.
        created_by_another = table is None and after is not None
        if is_unanswered(lost):
            time.sleep(FIRST_PAUSE_SECONDS * 2**number)
        elif not (isinstance(lost, CommitFailedError) or created_by_another):
            raise StorageError(f"{uri}: cannot commit: {reason(lost)}") from lost
        elif snapshot:
            break
    assert lost
    tries = f"{uri}: {number + 1} tries to commit {day}"
    if is_unanswered(lost):
        raise StorageError(f"{tries} got no answer: {reason(lost)}") from lost
    raise LostRaceError(f"{tries} were refused, for other runs kept committing: {reason(lost)}") from lost


def open_table(uri: str, options: Mapping[str, str]) -> DeltaTable | None:
    """The newest snapshot of a table; None when there is none."""
    try:
        return _asked(uri, lambda: DeltaTable(uri, storage_options=dict(options)))
    except TableNotFoundError:
        return None


def snapshot_files(table: DeltaTable) -> Iterator[tuple[date, str, int]]:
    """The day, the path relative to the table, and the size of every file of a snapshot."""
    added = _asked(table.table_uri, lambda: table.get_add_actions(flatten=True))
    files = pa.table(added).select(["partition.day", "path", "size_bytes"])
    for row in files.to_pylist():
        yield row["partition.day"], unquote(row["path"]), row["size_bytes"]


def highest(table: DeltaTable, column: str) -> dict[date, Any]:
    """The highest value of a column on each day of a snapshot; without the days that have a file of which it is not known."""
    added = pa.table(_asked(table.table_uri, lambda: table.get_add_actions(flatten=True)))
    known: dict[date, list[Any]] = {}
    for row in added.select(["partition.day", name]).to_pylist() if (name := f"max.{column}") in added.column_names else ():
        known.setdefault(row["partition.day"], []).append(row[name])
    return {day: max(values) for day, values in known.items() if None not in values}


def _asked(uri: str, ask: Callable[[], Answer]) -> Answer:
    """What delta-rs reads of a table, asked for again where an answer broke; raises `StorageError` when it cannot be read."""
    for number in itertools.count(1):
        try:
            return ask()
        except TableNotFoundError:
            raise
        except (DeltaError, OSError) as error:
            if number == READ_TRIES or not is_unanswered(error):
                raise StorageError(f"{uri}: cannot be read: {reason(error)}") from error
        time.sleep(FIRST_PAUSE_SECONDS * 2 ** (number - 1))
    raise AssertionError


class Origin(NamedTuple):
    """What a day was made from: the digest of its inputs, and that of the day before where the rows lean on it."""

    inputs: str
    carried_from: str | None


def committed_origins(version: int, read_commit: Callable[[int], bytes | None], days: frozenset[date]) -> dict[date, Origin]:
    """What each of `days` was last made from as of a version of a table, but for days that it does not have. See `told_origins`."""
    found: dict[date, Origin] = {}
    for _, told in told_origins(version, read_commit):
        found = {day: told[day] for day in days & told.keys()} | found
        if len(found) == len(days):
            break
    return found


def told_origins(version: int, read_commit: Callable[[int], bytes | None]) -> Iterator[tuple[int, dict[date, Origin]]]:
    """The number of every commit up to a version of a table, the newest first, with the origins of days that it tells.

    `read_commit` gives a commit's file by its number, None for one that is gone. delta-rs's own `history` will not do: it tells what was
    committed after the snapshot too, and numbers it wrongly.
    """
    with ThreadPoolExecutor(LOG_READERS) as pool:
        newest, at_once = version, 1  # What is asked for is nearly always told by the last one.
        while newest >= 0:
            numbers = range(newest, max(newest - at_once, -1), -1)
            for number, content in zip(numbers, pool.map(read_commit, numbers), strict=True):
                if content is None:
                    return
                notes = _notes(content)
                made = {day: Origin(str(inputs), notes.get(CARRIED_KEY)) for day, inputs in json.loads(notes.get(INPUTS_KEY, "{}")).items()}
                made |= {day: Origin(*origin) for day, origin in json.loads(notes.get(ORIGINS_KEY, "{}")).items()}
                yield number, {date.fromisoformat(day): origin for day, origin in made.items()}
            newest, at_once = newest - at_once, LOG_READERS


def _notes(commit: bytes) -> dict[str, Any]:
    """The `commitInfo` of a commit's file (Delta protocol, "Commit Provenance Information")."""
    actions = (json.loads(line) for line in commit.splitlines() if b'"commitInfo"' in line)
    return next((dict(action["commitInfo"]) for action in actions if "commitInfo" in action), {})


def repeat_origins(table: DeltaTable, origins: Mapping[date, Origin], run_id: str | None) -> None:
    """Commit nothing but what days were made from; raises `StorageError` where another run commits."""
    told = {ORIGINS_KEY: json.dumps({str(day): origin for day, origin in sorted(origins.items())})} | ({RUN_KEY: run_id} if run_id else {})
    _write(table, [], CommitProperties(custom_metadata=told, max_commit_retries=0))


def swap_files(
    table: DeltaTable, day: date, gone: Mapping[str, int], files: Sequence[AddAction], run_id: str | None, now: datetime
) -> bool:
    """Put `files` with the same rows in the place of some of a snapshot's (path to size) in one commit; False where another came first.

    Nothing changes for readers: the commit says so (`dataChange`), and tells no origin.
    """
    moment, partition = int(now.timestamp() * 1000), {"day": str(day)}
    removed = [RemoveAction(quote(path, safe="/=-._"), False, moment, size, dict(partition)) for path, size in gone.items()]
    added = [replace(one, data_change=False) for one in files]
    try:
        _write(table, [*removed, *added], CommitProperties(custom_metadata={RUN_KEY: run_id} if run_id else {}, max_commit_retries=0))
    except CommitFailedError:
        return False
    return True


def _write(table: DeltaTable, actions: list[AddAction | RemoveAction], properties: CommitProperties) -> None:
    table.create_write_transaction(actions, "append", table.schema(), ["day"], None, commit_properties=properties)


def add_action(path: str, size: int, day: date, statistics: str, now: datetime) -> AddAction:
    """Name a part file for a commit."""
    return AddAction(path, size, {"day": str(day)}, int(now.timestamp() * 1000), True, statistics)


def _holds(table: DeltaTable, files: Sequence[AddAction]) -> bool:
    """Whether part files, of which no two have one name, are in a snapshot: not known of none."""
    return bool(files) and {unquote(file.path) for file in files} <= {path for _, path, _ in snapshot_files(table)}
