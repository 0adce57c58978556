"""Delta tables through delta-rs: one day replaced in one commit, and the files that a snapshot holds.

delta-rs commits with a conditional put, on folders and on S3, so that of two drivers one is refused instead of losing a commit silently.
Tables keep to what every Delta reader understands: reader version 1, no deletion vectors, no column mapping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from flowlog_udfs.errors import LostRaceError, StorageError

COMMIT_TRIES = 8
LOG_READERS = 8
"""Files of a table's log that are read at once."""
RETENTION = "interval 366 days"
"""How long former states stay readable: the twelve months for which evidence is kept (PCI DSS 4.0.1, 10.5.1)."""
INPUTS_KEY = "flowlog.inputs"
"""Where a commit keeps the digest of the inputs it was made from."""
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
    snapshot: Callable[[], DeltaTable | None] | None = None,
) -> None:
    """Make `files` the whole of the partition `day`, in one commit that carries the digest `inputs`; creates the table if need be.

    `statistics` are the columns of which files have bounds; see `properties`.

    `carried_from` is the digest of the day before, where the rows lean on it.

    A lost race is tried again from a fresh snapshot, never by delta-rs itself: its own retry would keep both writers' rows. With `snapshot`
    it is lost: the files replace the day as it is there or not at all. Raises `StorageError` when the table cannot be committed, of the
    kind `LostRaceError` when other runs were faster.
    """
    notes = {INPUTS_KEY: json.dumps({str(day): inputs})} | ({CARRIED_KEY: carried_from} if carried_from else {})
    _commit(uri, options, schema, day, files, notes, properties(statistics), replaces=True, snapshot=snapshot)


def append_files(
    uri: str, options: Mapping[str, str], schema: pa.Schema, day: date, files: Sequence[AddAction], *, statistics: Sequence[str] = ()
) -> None:
    """Add `files` to the partition `day` in one commit; creates the table if need be. Raises `StorageError` when it cannot be committed."""
    _commit(uri, options, schema, day, files, {}, properties(statistics), replaces=False)


def properties(statistics: Sequence[str]) -> dict[str, str]:
    """The properties of a table (Delta protocol, "Table Properties"): how long it keeps its former states, and of which columns files have
    `statistics`.

    VACUUM refuses to remove what is younger than the retention, whatever it is told. Where the columns are not named readers expect some of
    the first 32; delta-rs then compares with a bound that is null, and finds no row.
    """
    named = {"delta.dataSkippingStatsColumns": ",".join(statistics)} if statistics else {"delta.dataSkippingNumIndexedCols": "0"}
    return {"delta.deletedFileRetentionDuration": RETENTION, "delta.logRetentionDuration": RETENTION, **named}


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
    lost: DeltaError | None = None
    tries = 1 if snapshot else COMMIT_TRIES
    for _ in range(tries):
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
                if not configuration.items() <= table.metadata().configuration.items():
                    table.alter.set_table_properties(configuration)
                mode: Literal["overwrite", "append"] = "overwrite" if replaces else "append"
                table.create_write_transaction(list(files), mode, columns, ["day"], filters, commit_properties=properties)
            return
        except CommitFailedError as error:
            lost = error
        except DeltaError as error:
            if table is not None or open_table(uri, options) is None:
                raise StorageError(f"{uri}: cannot commit: {_one_line(error)}") from error
            lost = error  # Another run created the table in the meantime.
    raise LostRaceError(f"{uri}: other runs kept committing; {tries} tries for {day} were refused: {_one_line(lost)}") from lost


def open_table(uri: str, options: Mapping[str, str]) -> DeltaTable | None:
    """The newest snapshot of a table; None when there is none."""
    try:
        return DeltaTable(uri, storage_options=dict(options))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise StorageError(f"{uri}: cannot be opened: {_one_line(error)}") from error


def snapshot_files(table: DeltaTable) -> Iterator[tuple[date, str]]:
    """The day and the path, relative to the table, of every file of a snapshot."""
    files = pa.table(table.get_add_actions(flatten=True)).select(["partition.day", "path"])
    for row in files.to_pylist():
        yield row["partition.day"], unquote(row["path"])


class Origin(NamedTuple):
    """What a day was made from: the digest of its inputs, and that of the day before where the rows lean on it."""

    inputs: str
    carried_from: str | None


def committed_origin(version: int, read_commit: Callable[[int], bytes | None], day: date) -> Origin | None:
    """What `day` was last made from as of a version of a table; None for a day that it does not have.

    `read_commit` gives a commit's file by its number, None for one that is gone. delta-rs's own `history` will not do: it tells what was
    committed after the snapshot too, and numbers it wrongly.
    """
    with ThreadPoolExecutor(LOG_READERS) as pool:
        newest, at_once = version, 1  # Nearly always among the last.
        while newest >= 0:
            numbers = range(newest, max(newest - at_once, -1), -1)
            for content in pool.map(read_commit, numbers):
                if content is None:
                    return None
                notes = _notes(content)
                digests = json.loads(notes.get(INPUTS_KEY, "{}"))
                if str(day) in digests:
                    return Origin(str(digests[str(day)]), notes.get(CARRIED_KEY))
            newest, at_once = newest - at_once, LOG_READERS
    return None


def _notes(commit: bytes) -> dict[str, Any]:
    """The `commitInfo` of a commit's file (Delta protocol, "Commit Provenance Information")."""
    actions = (json.loads(line) for line in commit.splitlines() if b'"commitInfo"' in line)
    return next((dict(action["commitInfo"]) for action in actions if "commitInfo" in action), {})


def add_action(path: str, size: int, day: date, statistics: str, now: datetime) -> AddAction:
    """Name a part file for a commit."""
    return AddAction(path, size, {"day": str(day)}, int(now.timestamp() * 1000), True, statistics)


def _one_line(error: Exception | None) -> str:
    """An error of delta-rs, which may quote a whole answer of the storage, as one line of moderate length."""
    return " ".join(str(error).split())[:300]
