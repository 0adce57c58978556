"""An S3 Inventory as AWS writes it, of a bucket as it is: data files and their manifest.

Source: AWS, "Locating your inventory list" and "Cataloging and analyzing your data with S3 Inventory" (S3 user guide): CSV files are gzip
without a header line, every value quoted, keys URL-encoded as in forms; Parquet files hold keys as they are and times as TIMESTAMP_MILLIS.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote_plus

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

TAKEN_AT = datetime(2026, 3, 12, 1, tzinfo=timezone.utc)
CSV_FIELDS = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag", "StorageClass")
PARQUET_COLUMNS = pa.schema(
    [
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        ("version_id", pa.string()),
        ("is_latest", pa.bool_()),
        ("is_delete_marker", pa.bool_()),
        ("size", pa.int64()),
        ("last_modified_date", pa.timestamp("ms", "UTC")),
        ("e_tag", pa.string()),
        ("storage_class", pa.string()),
    ]
)
PARQUET_SCHEMA = (
    "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); optional binary version_id (UTF8); optional boolean"
    " is_latest; optional boolean is_delete_marker; optional int64 size; optional int64 last_modified_date (TIMESTAMP_MILLIS); optional"
    " binary e_tag (UTF8); optional binary storage_class (UTF8); }"
)


@dataclass(frozen=True)
class Row:
    """A row of an inventory of all versions."""

    key: str
    size: int | None = 1
    modified: datetime | None = TAKEN_AT
    etag: str | None = "0cc175b9c0f1b6a831c399e269772661"
    is_latest: bool = True
    is_marker: bool = False


def rows_of(bucket: str) -> list[Row]:
    """The objects of a bucket."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [Row(one["Key"], one["Size"], one["LastModified"], one["ETag"].strip('"')) for page in pages for one in page.get("Contents", ())]


def csv_file(bucket: str, rows: Iterable[Row], fields: Sequence[str] = CSV_FIELDS) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        values = {
            "Bucket": bucket,
            "Key": quote_plus(row.key, safe="/"),
            "VersionId": "",
            "IsLatest": str(row.is_latest).lower(),
            "IsDeleteMarker": str(row.is_marker).lower(),
            "Size": "" if row.size is None else row.size,
            "LastModifiedDate": row.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z") if row.modified else "",
            "ETag": row.etag or "",
            "StorageClass": "STANDARD",
        }
        writer.writerow([values[name] for name in fields])
    return gzip.compress(text.getvalue().encode(), mtime=0)


def parquet_file(bucket: str, rows: Iterable[Row], drop: Sequence[str] = ()) -> bytes:
    table = pa.Table.from_pylist(
        [
            {
                "bucket": bucket,
                "key": row.key,
                "is_latest": row.is_latest,
                "is_delete_marker": row.is_marker,
                "size": row.size,
                "last_modified_date": row.modified,
                "e_tag": row.etag,
                "storage_class": "STANDARD",
            }
            for row in rows
        ],
        PARQUET_COLUMNS,
    )
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(list(drop)), sink)
    return sink.getvalue()


def publish(bucket: str, kept_in: str, files: Sequence[bytes], file_format: str, /, **changed: object) -> str:
    """Put data files and their manifest into a bucket, where AWS puts them; the manifest's URL."""
    client = boto3.client("s3")
    entries = []
    for content in files:
        end = "csv.gz" if file_format == "CSV" else file_format.lower()
        key = f"inventory/{bucket}/daily/data/{hashlib.sha256(content).hexdigest()[:12]}.{end}"
        client.put_object(Bucket=kept_in, Key=key, Body=content)
        entries.append({"key": key, "size": len(content), "MD5checksum": hashlib.md5(content).hexdigest()})
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{kept_in}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(TAKEN_AT.timestamp() * 1000)),
        "fileFormat": file_format,
        "fileSchema": ", ".join(CSV_FIELDS) if file_format == "CSV" else PARQUET_SCHEMA,
        "files": entries,
    } | changed
    key = f"inventory/{bucket}/daily/{TAKEN_AT:%Y-%m-%dT%H-%MZ}/manifest.json"
    client.put_object(Bucket=kept_in, Key=key, Body=json.dumps(manifest).encode())
    return f"s3://{kept_in}/{key}"
