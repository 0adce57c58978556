"""The log of a Delta table: which files it names, checkpoints, and commits that are older than its retention.

What a day was made from stands in the commit that made it. Before such a commit is cleaned away it is repeated in a new one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import partial
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from flowlog_udfs import delta
from flowlog_udfs.errors import StorageError
from flowlog_udfs.s3_faults import reason
from flowlog_udfs.storage import Storage, StoredObject, needed
from flowlog_udfs.tables import Table, Warehouse

CHECKPOINT_COMMITS = 10
"""A reader has to read at most about so many commits after a checkpoint; Delta's own default."""
REPEATED_EARLIER = timedelta(days=30)
"""Origins that expire within this time are repeated together with expired ones: once a month, not once a day."""
_COMMIT = re.compile(r"/(\d{20})\.json$")
_CHECKPOINT = re.compile(r"/(\d{20})\.checkpoint(?:\.\d+\.\d+)?\.parquet$")


def named_paths(storage: Storage, folder: str) -> set[str]:
    """Every file, relative to the table's folder, that a commit or checkpoint names: those of former states too."""
    found: set[str] = set()
    for stored in storage.objects(f"{folder}_delta_log/"):
        if _COMMIT.search(stored.key):
            found.update(_of_commit(storage, stored.key))
        elif _CHECKPOINT.search(stored.key):
            found.update(_of_checkpoint(storage, stored.key))
    return found


def _of_commit(storage: Storage, key: str) -> Iterator[str]:
    with needed(storage, key) as stream:
        for line in stream.read().splitlines():
            action = json.loads(line) if line.strip() else {}
            yield from (unquote(action[kind]["path"]) for kind in ("add", "remove") if kind in action)


def _of_checkpoint(storage: Storage, key: str) -> Iterator[str]:
    with needed(storage, key) as stream:
        rows = pq.ParquetFile(io.BytesIO(stream.read())).read(["add.path", "remove.path"], use_threads=False)
    for row in rows.to_pylist():
        yield from (unquote(one["path"]) for one in (row.get("add"), row.get("remove")) if one and one["path"])


def wants_checkpoint(storage: Storage, folder: str) -> bool:
    """Whether the newest checkpoint is too far behind."""
    stored = list(storage.objects(f"{folder}_delta_log/"))
    commits, checkpoints = (_versions(stored, pattern) for pattern in (_COMMIT, _CHECKPOINT))
    return max(commits, default=-1) - max(checkpoints, default=-1) >= CHECKPOINT_COMMITS


def clean(warehouse: Warehouse, table: Table, now: datetime) -> int:
    """Remove what is older than the log's retention and no state within it needs; returns how many commits went.

    First what those commits tell of days is committed anew. Raises `StorageError` when that is refused, and then removes nothing.
    """
    log = f"{warehouse.folder(table)}_delta_log/"
    modified = _versions(warehouse.storage.objects(log), _COMMIT)
    opened = delta.open_table(warehouse.uri(table), warehouse.options())
    if opened is None:
        return 0
    ends = now - delta.interval(opened.metadata().configuration[delta.LOG_RETENTION])
    if not any(moment < ends for moment in modified.values()):
        return 0
    expiring: dict[date, delta.Origin] = {}
    kept: set[date] = set()
    for version, told in delta.told_origins(opened.version(), partial(warehouse.commit, table)):
        is_kept = version in modified and modified[version] >= ends + REPEATED_EARLIER
        kept.update(told if is_kept else ())
        expiring.update({} if is_kept else {day: origin for day, origin in told.items() if day not in kept | expiring.keys()})
    try:
        if expiring:
            delta.repeat_origins(opened, expiring, warehouse.run_id)
        DeltaTable(warehouse.uri(table), storage_options=warehouse.options()).cleanup_metadata()
    except DeltaError as error:
        raise StorageError(f"{log}: cannot be cleaned: {reason(error)}") from error
    return len(modified.keys() - _versions(warehouse.storage.objects(log), _COMMIT).keys())


def _versions(stored: Iterator[StoredObject] | list[StoredObject], pattern: re.Pattern[str]) -> dict[int, datetime]:
    """The versions of commits or checkpoints, with when they were written."""
    found = ((pattern.search(one.key), one.last_modified) for one in stored)
    return {int(match[1]): moment for match, moment in found if match}
