"""Folders and buckets behind one small interface: `file:` paths and `s3://` URLs in, listings and byte streams out.

Credentials always come from AWS's default chain and are never read here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, cast

from flowlog_udfs.errors import GoneError, ObjectError, StorageError, UsageError
from flowlog_udfs.resumed_body import ResumedBody
from flowlog_udfs.s3_endpoint import S3Endpoint, client_of
from flowlog_udfs.s3_faults import reading, storing


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One listed object: its key (relative to the bucket or folder), entity tag, size in bytes and time of last change (UTC)."""

    key: str
    etag: str
    size_bytes: int
    last_modified: datetime


class Storage(Protocol):
    """What flowlog needs of a place that holds objects. Keys use `/` and are relative to the bucket or root folder."""

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below `prefix` (itself empty or ending in `/`), sorted."""
        ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below `prefix`, sorted by key."""
        ...

    def open(self, key: str, etag: str | None = None) -> IO[bytes]:
        """Stream an object; raises `ObjectError` when it is gone or no longer the one listed with `etag`."""
        ...

    def head(self, key: str, size: int) -> bytes:
        """The first `size` bytes of an object."""
        ...

    def put(self, local: Path, key: str) -> None:
        """Move a local file to `key`."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those already gone are passed over."""
        ...

    def delete_folder(self, prefix: str) -> None:
        """Delete all objects below `prefix`, which ends in `/`."""
        ...

    def replace_folder(self, prefix: str, staged: Sequence[str]) -> None:
        """Make the objects `staged` the whole content of `prefix`."""
        ...

    @property
    def scratch(self) -> Path:
        """A local folder for files that `put` will move here."""
        ...

    def url(self, prefix: str, scheme: str = "s3") -> str:
        """The path or URL by which other libraries know `prefix`; `scheme` for buckets."""
        ...


@dataclass(frozen=True, slots=True)
class S3Storage:
    """A bucket. Carries the endpoint with it, so that Spark workers need nothing in their own environment but credentials."""

    bucket: str
    endpoint: S3Endpoint

    def folders(self, prefix: str) -> list[str]:
        """Common prefixes below `prefix`; pages through, and never descends."""
        pages = self._pages(Prefix=prefix, Delimiter="/")
        return sorted(entry["Prefix"][len(prefix) : -1] for page in pages for entry in page.get("CommonPrefixes", ()))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key starts with `prefix`, 1,000 to a request."""
        for page in self._pages(Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield StoredObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"].astimezone(timezone.utc))

    def open(self, key: str, etag: str | None = None) -> IO[bytes]:
        """One GET, and one more wherever the connection breaks, conditional on `etag`: an object replaced since it was listed is not read
        by halves. Raises `StorageError` for what is wrong with more than this object.
        """
        return cast(IO[bytes], ResumedBody(partial(self._get, key, None), etag))

    def head(self, key: str, size: int) -> bytes:
        """A ranged GET."""
        with ResumedBody(partial(self._get, key, size - 1)) as body:
            return body.read()

    def put(self, local: Path, key: str) -> None:
        """Upload (in parts when large), then remove the local file."""
        with storing(f"{self.url(key)} cannot be written"):
            client_of(self.endpoint).upload_file(str(local), self.bucket, key)
        local.unlink()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete one by one; S3 does not mind keys that are gone."""
        for key in keys:
            with storing(f"{self.url(key)} cannot be deleted"):
                client_of(self.endpoint).delete_object(Bucket=self.bucket, Key=key)

    def delete_folder(self, prefix: str) -> None:
        """Delete one by one, as they are listed."""
        self.delete(stored.key for stored in self.objects(prefix))

    def replace_folder(self, prefix: str, staged: Sequence[str]) -> None:
        """Copy in, then delete what was there and the staged objects: not atomic, for S3 has no rename."""
        former = [stored.key for stored in self.objects(prefix)]
        for key in staged:
            target = prefix + key.rpartition("/")[2]
            with storing(f"{self.url(target)} cannot be written"):
                client_of(self.endpoint).copy({"Bucket": self.bucket, "Key": key}, self.bucket, target)
        self.delete([*former, *staged])

    @property
    def scratch(self) -> Path:
        """The machine's folder for temporary files."""
        return Path(tempfile.gettempdir())

    def url(self, prefix: str, scheme: str = "s3") -> str:
        """An `s3://` (or `s3a://`) URL."""
        return f"{scheme}://{self.bucket}/{prefix}".rstrip("/")

    def _pages(self, **request: Any) -> Iterator[Any]:
        with storing(f"s3://{self.bucket}/{request['Prefix']} cannot be listed"):
            yield from client_of(self.endpoint).get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **request)

    def _get(self, key: str, last: int | None, offset: int, etag: str | None) -> Any:
        """GetObject from `offset` on, to byte `last` where there is one."""
        request: dict[str, str] = {"IfMatch": f'"{etag}"'} if etag else {}
        if offset or last is not None:
            request["Range"] = f"bytes={offset}-{'' if last is None else last}"
        with reading(self.url(key)):
            return client_of(self.endpoint).get_object(Bucket=self.bucket, Key=key, **request)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FolderStorage:
    """A folder of the local file system (or any mounted one)."""

    root: str

    def folders(self, prefix: str) -> list[str]:
        """Names of the sub-folders; empty when `prefix` does not exist."""
        try:
            with os.scandir(os.path.join(self.root, prefix)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(f"{prefix} cannot be listed: {error}") from error

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """A plain walk, in key order."""
        for folder, names, files in os.walk(os.path.join(self.root, prefix)):
            names.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue
                key = os.path.relpath(path, self.root).replace(os.sep, "/")
                changed = datetime.fromtimestamp(status.st_mtime, timezone.utc)
                yield StoredObject(key, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_size, changed)

    def open(self, key: str, etag: str | None = None) -> IO[bytes]:
        """Open a file; `etag` is its time of change and size at listing."""
        try:
            stream = open(os.path.join(self.root, key), "rb")  # noqa: SIM115 - the caller closes it
        except FileNotFoundError as error:
            raise GoneError("gone: the object vanished between listing and reading") from error
        except OSError as error:
            raise ObjectError(f"unreadable: {error.strerror}") from error
        status = os.fstat(stream.fileno())
        if etag and etag != f"{status.st_mtime_ns:x}-{status.st_size:x}":
            stream.close()
            raise ObjectError("replaced: the object changed between listing and reading")
        return stream

    def head(self, key: str, size: int) -> bytes:
        """The file's first bytes."""
        with self.open(key) as stream:
            return stream.read(size)

    def put(self, local: Path, key: str) -> None:
        """Move into place by a rename, so that nobody meets half of it; from another file system by way of `scratch`."""
        target = Path(self.root, key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if local.stat().st_dev != target.parent.stat().st_dev:
                local = Path(shutil.move(local, self.scratch / f"{uuid.uuid4()}-{local.name}"))
            os.replace(local, target)
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror}") from error

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink files."""
        for key in keys:
            Path(self.root, key).unlink(missing_ok=True)

    def delete_folder(self, prefix: str) -> None:
        """Remove the folder."""
        shutil.rmtree(Path(self.root, prefix), ignore_errors=True)

    def replace_folder(self, prefix: str, staged: Sequence[str]) -> None:
        """Fill a new folder beside the former one and swap them by two renames."""
        target = Path(self.root, prefix)
        fresh, former = (target.with_name(f"_{which}-{target.name}") for which in ("fresh", "former"))
        for leftover in (fresh, former):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        for key in staged:
            os.replace(Path(self.root, key), fresh / Path(key).name)
        if target.exists():
            target.rename(former)
        fresh.rename(target)
        shutil.rmtree(former, ignore_errors=True)

    @property
    def scratch(self) -> Path:
        """A hidden folder below the root, so that `put` is a rename."""
        folder = Path(self.root, ".scratch")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def url(self, prefix: str, scheme: str = "s3") -> str:
        """The absolute path."""
        return os.path.join(self.root, prefix).rstrip("/")


@contextmanager
def needed(storage: Storage, key: str) -> Iterator[IO[bytes]]:
    """An object that a run cannot do without, for reading: whatever is wrong with it is a `StorageError` that names it."""
    try:
        with storage.open(key) as stream:
            yield stream
    except (ObjectError, OSError) as error:
        raise StorageError(f"{storage.url(key)} cannot be read: {error}") from error


def content(storage: Storage, key: str) -> bytes | None:
    """The whole of an object; None where there is none. Raises `StorageError` for one that cannot be read."""
    try:
        with storage.open(key) as stream:
            return stream.read()
    except GoneError:
        return None
    except ObjectError as error:
        raise StorageError(f"{storage.url(key)} cannot be read: {error}") from error


def open_storage(url: str) -> tuple[Storage, str]:
    """The storage behind a folder path, `file:` URL or `s3://bucket[/prefix]`, and the prefix in it (empty or ending in `/`).

    Raises `UsageError` for another scheme or an S3 URL without a bucket.
    """
    scheme, separator, rest = url.partition("://")
    if not url.strip():
        raise UsageError("a folder or URL is empty; is a variable not set?")
    if not separator:
        return FolderStorage(os.path.abspath(url.removeprefix("file:"))), ""
    if scheme == "file":
        return FolderStorage(os.path.abspath(rest)), ""
    if scheme not in ("s3", "s3a"):
        raise UsageError(f"{url}: unknown kind of storage {scheme}://; give a folder or s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise UsageError(f"{url}: no bucket; write s3://bucket/prefix")
    if "@" in bucket or ":" in bucket:
        # Not quoted: what stands before the @ may be a secret.
        raise UsageError(
            f"a URL {scheme}://… has credentials or a port in it; write s3://bucket/prefix, credentials come from AWS's own chain"
        )
    prefix = prefix.strip("/")
    return S3Storage(bucket, S3Endpoint.from_environment()), f"{prefix}/" if prefix else ""
