"""S3 Inventory to stored objects: a `manifest.json` in, the objects of a few dates out, without a listing of the bucket.

Inventory files are read one after the other, a block of rows at a time, and all rows but those of the dates are dropped before they become
Python objects: the memory of a bucket with a billion keys is that of one block.

Source: AWS, "Cataloging and analyzing your data with S3 Inventory" and "Locating your inventory list" (S3 user guide).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timezone
from functools import reduce
from typing import IO
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from flowlog_udfs.columns import DAMAGE
from flowlog_udfs.errors import GoneError, ObjectError, StorageError, UsageError
from flowlog_udfs.storage import Storage, StoredObject, open_storage

NEEDED = {"key": "Key", "size": "Size", "last_modified_date": "LastModifiedDate", "e_tag": "ETag"}
"""Columns without which an inventory does not tell what a listing would; the last three are optional fields of its configuration."""
DROPPED = {"is_latest": "false", "is_delete_marker": "true"}
"""Rows of an inventory of all versions that are not the object which a reader of the key gets."""
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Manifest:
    """What a `manifest.json` says: the bucket, when the inventory began, the format of its files, and where they are.

    `columns` are those of CSV files, which have no header line; Parquet files tell their own.
    """

    url: str
    bucket: str
    taken_at: datetime
    columns: tuple[str, ...] | None
    files: tuple[str, ...]

    @classmethod
    def load(cls, url: str) -> Manifest:
        """Read a manifest; raises `UsageError` for what is none, and for files in another format than CSV and Parquet."""
        with opened(url) as stream:
            content = stream.read()
        try:
            found = json.loads(content)
            bucket, kept_in = found["sourceBucket"].strip(), found["destinationBucket"].rpartition(":")[2]
            taken_at = datetime.fromtimestamp(int(found["creationTimestamp"]) / 1000, timezone.utc)
            file_format, schema = found["fileFormat"], found["fileSchema"]
            files = tuple(f"s3://{kept_in}/{entry['key']}" for entry in found["files"])
            names = tuple(_snake(name.strip()) for name in schema.split(","))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UsageError(f"{url}: is no manifest of an S3 Inventory; give its manifest.json") from error
        except KeyError as error:
            raise UsageError(f"{url}: is no manifest of an S3 Inventory: it has no {error}; give its manifest.json") from error
        if file_format not in ("CSV", "Parquet"):
            raise UsageError(f"{url}: fileFormat {file_format!r}: must be CSV or Parquet; configure the inventory so")
        columns = names if file_format == "CSV" else None
        if columns:
            _refuse_missing(url, columns)
        return cls(url, bucket, taken_at, columns, files)

    def objects(self, dates: Iterable[date]) -> Iterator[StoredObject]:
        """The current objects below folders of these dates; raises `UsageError` for a missing field, `StorageError` for a damaged file."""
        pattern = "|".join(_dated(day) for day in sorted(dates))
        for url in self.files:
            with _local_copy(url) as path:
                try:
                    for rows in self._rows(url, path):
                        yield from _objects(url, rows, pattern, is_encoded=self.columns is not None)
                except DAMAGE as error:
                    raise StorageError(f"{url}: damaged: {error}") from error

    def _rows(self, url: str, path: str) -> Iterator[pa.RecordBatch]:
        """Blocks of rows. Arrow opens the file by itself: a thread of its own never holds memory of Python."""
        if self.columns is None:
            with pq.ParquetFile(pa.OSFile(path)) as file:
                names = file.schema_arrow.names
                _refuse_missing(url, names)
                wanted = [name for name in (*NEEDED, *DROPPED) if name in names]
                yield from file.iter_batches(BLOCK_ROWS, columns=wanted, use_threads=False)
            return
        wanted = [name for name in (*NEEDED, *DROPPED) if name in self.columns]
        with pa.CompressedInputStream(pa.OSFile(path), "gzip") as stream:
            yield from csv.open_csv(
                stream,
                csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self.columns),
                convert_options=csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())),
            )


def utc_time(value: str | datetime) -> datetime:
    """A time as S3 writes it in lists and events, UTC whether it says so or not; raises `ValueError` for what is none.

    >>> utc_time("2026-03-10T00:06:11.120Z").isoformat()
    '2026-03-10T00:06:11.120000+00:00'
    """
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value.replace("Z", "+00:00"))
    try:
        return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except OverflowError as error:
        raise ValueError(f"{value} is no time") from error


def size_and_etag(size: str | int, etag: str) -> tuple[int, str]:
    """What an object is listed with, the tag without its quotes; raises `ValueError` for what no object has.

    The tag goes back to S3 in a header, where it must not be able to say more.
    """
    if not isinstance(size, str | int):
        raise ValueError(f"size {size!r}")
    found, tag = int(size), etag.strip('"')
    if not 0 <= found < 1 << 63 or not re.fullmatch("[!-~]*", tag):
        raise ValueError(f"size {size!r}, ETag {etag!r}")
    return found, tag


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """A file by its path or URL, for reading; raises `UsageError` when it is not there, and `StorageError` when it cannot be read."""
    storage, key = located(url)
    try:
        with storage.open(key) as stream:
            yield stream
    except GoneError as error:
        raise UsageError(f"{url}: there is no such file") from error
    except ObjectError as error:
        raise StorageError(f"{url}: {error}") from error


def located(url: str) -> tuple[Storage, str]:
    """The storage of a file, and its key there."""
    folder, slash, name = url.rpartition("/")
    storage, prefix = open_storage(folder or slash or ".")
    return storage, prefix + name


@contextmanager
def _local_copy(url: str) -> Iterator[str]:
    """The path of a copy of a file, for as long as it is read: Parquet is read from its end."""
    with tempfile.NamedTemporaryFile(prefix="flowlog-inventory-") as local:
        with opened(url) as stream:
            shutil.copyfileobj(stream, local, BLOCK_BYTES)
        local.flush()
        yield local.name


def _objects(url: str, rows: pa.RecordBatch, pattern: str, *, is_encoded: bool) -> Iterator[StoredObject]:
    dropped = [pc.equal(rows.column(name).cast(pa.string()), value) for name, value in DROPPED.items() if name in rows.schema.names]
    kept = pc.match_substring_regex(rows.column("key"), pattern, ignore_case=True)
    kept = reduce(lambda so_far, drop: pc.and_not(so_far, pc.fill_null(drop, False)), dropped, kept)
    for row in rows.filter(kept).to_pylist():
        # Keys are encoded as in forms: a space is a plus.
        key = unquote_plus(row["key"]) if is_encoded else row["key"]
        try:
            size, etag = size_and_etag(row["size"], row["e_tag"])
            yield StoredObject(key, etag, size, utc_time(row["last_modified_date"]))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{url}: size, date or ETag of {key} is not one: {error}; give another inventory") from error


def _refuse_missing(url: str, columns: Iterable[str]) -> None:
    missing = [field for name, field in NEEDED.items() if name not in columns]
    if missing:
        raise UsageError(f"{url}: has no field {', '.join(missing)}; add it to the inventory's configuration")


def _dated(day: date) -> str:
    """A pattern of the folders of a date, in plain and Hive form, be the key encoded or not."""
    slash, equals = "(?:/|%2f)", "(?:=|%3d)"
    return f"{day:%Y}{slash}(?:month{equals})?{day:%m}{slash}(?:day{equals})?{day:%d}{slash}"


def _snake(name: str) -> str:
    """The name of a field in Parquet files from that in CSV files.

    >>> _snake("LastModifiedDate"), _snake("ETag")
    ('last_modified_date', 'e_tag')
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
