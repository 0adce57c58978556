"""The only reader and writer of tables: part files in, a day replaced whole out; Delta or Parquet, folder or S3."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from flowlog_udfs import delta
from flowlog_udfs.errors import UsageError
from flowlog_udfs.parts import PartFile, PartWriter
from flowlog_udfs.storage import S3Storage, Storage, content, needed, open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

TableFormat = Literal["delta", "parquet"]
AMBIGUOUS = frozenset("#?%*[]{}\\")
"""In a path of a table these are part of a name to one reader, and to another a fragment, an escape or a pattern."""
STAGED = "_staged"
STEMS = {"delta": "part", "parquet": "rows"}
"""How names of part files begin: of Delta some may lie in a folder before its first commit, and must not pass for a table in Parquet."""


@dataclass(frozen=True)
class Table:
    """A table: its name, the columns of its part files (partition column `day` apart), and those that keep statistics."""

    name: str
    schema: pa.Schema
    skipping_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warehouse:
    """The folder or bucket prefix that holds the tables. Serialises to workers, which write part files through it."""

    storage: Storage
    prefix: str
    table_format: TableFormat
    run_id: str | None = None
    """Of the run that replaces days; its commits name it."""

    @classmethod
    def open(cls, url: str, table_format: str = "delta") -> Warehouse:
        """The warehouse at a folder or `s3://` URL; raises `UsageError` for an unknown table format and a path with `AMBIGUOUS` signs."""
        if not url.isprintable() or not AMBIGUOUS.isdisjoint(url):
            signs = " ".join(sorted(AMBIGUOUS))
            raise UsageError(
                f"{url}: a warehouse's path must not have {signs} or control characters in it: readers of tables take them amiss"
            )
        if table_format not in ("delta", "parquet"):
            raise UsageError(f"table format {table_format!r}: must be delta or parquet")
        return cls(*open_storage(url), cast(TableFormat, table_format))

    @property
    def url(self) -> str:
        """Where it is."""
        return self.storage.url(self.prefix)

    def pinned(self) -> Warehouse:
        """The warehouse as a step reads it."""
        return PinnedWarehouse(self.storage, self.prefix, self.table_format, self.run_id)

    def prove_writable(self) -> None:
        """Write and remove an empty object, so that a wrong warehouse is found before a day is read; raises `StorageError`."""
        descriptor, name = tempfile.mkstemp(prefix="flowlog-")
        os.close(descriptor)
        key = f"{self.prefix}.{Path(name).name}"
        self.storage.put(Path(name), key)
        self.storage.delete([key])

    def writer(self, table: Table, day: date) -> PartWriter:
        """A writer of part files, invisible to readers until `replace_day` names them."""
        return self._writer(table, f"day={day}" if self.table_format == "delta" else STAGED)

    def _writer(self, table: Table, folder: str) -> PartWriter:
        stem = STEMS[self.table_format]
        return PartWriter(self.storage, f"{self.folder(table)}{folder}/", table.schema, table.skipping_columns, stem)

    def write_rows(self, table: Table, day: date, rows: pa.Table) -> list[PartFile]:
        """Write rows held in memory as part files."""
        writer = self.writer(table, day)
        writer.write(rows)
        return writer.close()

    def discard(self, parts: Iterable[PartFile]) -> None:
        """Remove part files that will not be committed."""
        self.storage.delete(part.key for part in parts)

    def replace_day(
        self, table: Table, day: date, parts: Sequence[PartFile], *, inputs: str, now: datetime, carried_from: str | None = None
    ) -> None:
        """Make `parts` the whole of a table's day: one atomic commit for Delta, two renames (on S3 copy and delete) for Parquet.

        A Delta commit carries `inputs`, the digest of what the rows were made from, and `carried_from`, that of the day before where they
        lean on it. Raises `StorageError` when it is refused.
        """
        folder = self.folder(table)
        self.refuse_other_format(table)
        if self.table_format == "parquet":
            # A day without rows gets a file without rows: readers of Parquet know a table's columns from its files only.
            staged = parts or self.write_rows(table, day, table.schema.empty_table())
            self.storage.replace_folder(f"{folder}day={day}/", [part.key for part in staged])
            return
        files = [delta.add_action(p.key.removeprefix(folder), p.size_bytes, day, p.statistics, now) for p in parts]
        delta.replace_partition(
            *(self.uri(table), self.options(), logical_schema(table.schema), day, files, inputs, carried_from),
            statistics=table.skipping_columns,
            run_id=self.run_id,
            snapshot=self._snapshot(table),
        )

    def append(self, table: Table, day: date, rows: pa.Table, *, now: datetime) -> None:
        """Add rows to a table's day: for tables that nothing is ever taken from. Raises `StorageError` when it is refused."""
        folder = self.folder(table)
        self.refuse_other_format(table)
        writer = self._writer(table, f"day={day}")
        writer.write(rows)
        parts = writer.close()
        if self.table_format == "delta":
            files = [delta.add_action(p.key.removeprefix(folder), p.size_bytes, day, p.statistics, now) for p in parts]
            delta.append_files(self.uri(table), self.options(), logical_schema(table.schema), day, files, statistics=table.skipping_columns)

    def origin(self, table: Table, day: date) -> delta.Origin | None:
        """What a table's day was last made from; None where there is no day, and for Parquet, which keeps no such notes."""
        return self.origins(table, [day]).get(day)

    def origins(self, table: Table, days: Iterable[date]) -> dict[date, delta.Origin]:
        """The same of several days, in one look through the table's log."""
        opened = self._opened(table) if self.table_format == "delta" else None
        return delta.committed_origins(opened.version(), partial(self.commit, table), frozenset(days)) if opened else {}

    def highest(self, table: Table, column: str) -> dict[date, Any]:
        """The highest value of one of the table's `skipping_columns` on each day, without those days of which its log does not tell it."""
        opened = self._opened(table) if self.table_format == "delta" else None
        return delta.highest(opened, column) if opened else {}

    def has_day(self, table: Table, day: date) -> bool:
        """Whether a run has made the table's day, be it without a row."""
        return any(found == day for found, _ in self.part_keys(table)) or self.origin(table, day) is not None

    def part_keys(self, table: Table) -> Iterator[tuple[date, str]]:
        """Every day of a table with the storage keys of the part files that readers see."""
        yield from ((day, key) for day, key, _ in self.part_sizes(table))

    def part_sizes(self, table: Table) -> Iterator[tuple[date, str, int]]:
        """The same with the sizes of the files, in bytes."""
        folder = self.folder(table)
        if self.table_format == "delta":
            opened = self._opened(table)
            if opened:
                yield from ((day, folder + path, size) for day, path, size in delta.snapshot_files(opened))
            return
        names = self.storage.folders(folder)
        self.refuse_other_format(table, names)
        for name in names:
            if name.startswith("day="):
                day = date.fromisoformat(name[4:])
                yield from ((day, stored.key, stored.size_bytes) for stored in self.storage.objects(f"{folder}{name}/"))

    def rows(self, table: Table, keys: Iterable[str], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Columns (None: all) of part files, one table for each file: for small tables, read by the driver."""
        for key in keys:
            with needed(self.storage, key) as stream:
                # Not `pq.read_table`: its threads let go of Python's bytes late, and one that does so while Python ends aborts the process.
                yield pq.ParquetFile(pa.BufferReader(stream.read())).read(columns and list(columns), use_threads=False)

    def read(self, spark: SparkSession, table: Table, day: date) -> DataFrame:
        """A day of a table as a DataFrame, with column `day`; empty when the table has no such day."""
        from pyspark.sql import functions as F

        urls = sorted(self.storage.url(key, "s3a") for d, key in self.part_keys(table) if d == day)
        reader = spark.read.schema(spark_schema(table.schema))
        if isinstance(self.storage, S3Storage):
            reader = reader.options(**self.storage.endpoint.s3a_options())
        frame = reader.parquet(*urls) if urls else spark.createDataFrame([], spark_schema(table.schema))
        return frame.withColumn("day", F.lit(day))

    def refuse_other_format(self, table: Table, folders: Sequence[str] | None = None) -> None:
        """Raise `UsageError` for a table that stands here in the other format: what is done to it in this one would destroy it.

        `folders` are those of the table, where they are listed already.
        """
        folder = self.folder(table)
        stands = "delta" if "_delta_log" in (self.storage.folders(folder) if folders is None else folders) else None
        if not stands and self.table_format == "delta":
            names = (stored.key.rpartition("/")[2] for stored in self.storage.objects(folder))
            stands = "parquet" if any(name.startswith(f"{STEMS['parquet']}-") for name in names) else None
        if stands and stands != self.table_format:
            raise UsageError(f"{self.uri(table)}: its format is {stands}, not {self.table_format}; give --table-format {stands}")

    def folder(self, table: Table) -> str:
        """The prefix of a table's keys."""
        return f"{self.prefix}{table.name}/"

    def uri(self, table: Table) -> str:
        """A table's folder as delta-rs knows it."""
        return self.storage.url(self.folder(table))

    def options(self) -> dict[str, str]:
        """What delta-rs needs to know of the storage."""
        return self.storage.endpoint.deltalake_options() if isinstance(self.storage, S3Storage) else {}

    def commit(self, table: Table, version: int) -> bytes | None:
        """A file of a Delta table's log; None for one past its retention."""
        return content(self.storage, f"{self.folder(table)}_delta_log/{version:020}.json")

    def _opened(self, table: Table) -> DeltaTable | None:
        opened = delta.open_table(self.uri(table), self.options())
        if opened is None:
            self.refuse_other_format(table)
        return opened

    def _snapshot(self, table: Table) -> Callable[[], DeltaTable | None] | None:
        return None


@dataclass(frozen=True)
class PinnedWarehouse(Warehouse):
    """A warehouse of which each Delta table stays as it stood when first asked for, whatever other runs commit in the meantime.

    A day is replaced as it stood then, or not at all: `replace_day` raises `LostRaceError`. For the driver only.
    """

    _tables: dict[str, DeltaTable | None] = field(default_factory=dict, compare=False, repr=False)

    def _opened(self, table: Table) -> DeltaTable | None:
        if table.name not in self._tables:
            self._tables[table.name] = super()._opened(table)
        return self._tables[table.name]

    def _snapshot(self, table: Table) -> Callable[[], DeltaTable | None] | None:
        return lambda: self._opened(table)


def logical_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that readers see: dictionary encoding is how text is held in memory, not what it is."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema])


def spark_schema(schema: pa.Schema) -> StructType:
    """The Spark schema of an Arrow schema."""
    from pyspark.sql.types import StructField, StructType

    return StructType([StructField(field.name, _spark_type(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _spark_type(kind: pa.DataType) -> DataType:
    from pyspark.sql import types as T

    if pa.types.is_map(kind):
        return T.MapType(_spark_type(kind.key_type), _spark_type(kind.item_type))
    if pa.types.is_list(kind):
        return T.ArrayType(_spark_type(kind.value_type))
    if pa.types.is_struct(kind):
        return T.StructType([T.StructField(field.name, _spark_type(field.type)) for field in kind])
    if pa.types.is_timestamp(kind):
        return T.TimestampType()
    atoms = {
        pa.string(): T.StringType(),
        pa.int8(): T.ByteType(),
        pa.int32(): T.IntegerType(),
        pa.int64(): T.LongType(),
        pa.float64(): T.DoubleType(),
        pa.date32(): T.DateType(),
        pa.bool_(): T.BooleanType(),
        pa.binary(): T.BinaryType(),
    }
    return atoms[_plain(kind)]
