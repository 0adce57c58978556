"""A disk that is full: the run ends with status 3 and one line, the old day stays whole, and the next run with space makes the new one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disturbed import Seen, Sources, arguments, complaints, run, seen, unlike
from processes import started
from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="fills the disk of Spark's shuffle")]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size; skips the test where we may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, spare: int) -> Path:
    """A file that leaves so many bytes free."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free - spare))
    return ballast


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources.make(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def new_day(spark_session: SparkSession, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The new day where it followed the old one without a disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for logs in (sources.few, sources.all):
        assert run(spark_session, arguments(logs, folder)) == (0, [])
    return seen(folder)


@pytest.mark.parametrize("spare", [0, 48 << 10, 256 << 10], ids=["no byte", "48 KiB", "256 KiB"])
@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_while_tables_are_written(
    spark, sources: Sources, new_day: Seen, tmp_path: Path, table_format: str, spare: int, tried: Callable[[str, int], None]
):
    """Of the new day, which takes some 450 KiB, one part after the other finds no place."""
    with small_disk(tmp_path / "disk", "16m") as disk:
        warehouse, options = disk / "tables", ("--table-format", table_format)
        assert run(spark, arguments(sources.few, warehouse, *options)) == (0, [])
        before = seen(warehouse)
        ballast = fill(disk, spare)
        status, told = run(spark, arguments(sources.all, warehouse, *options))
        assert (status, len(told)) == (3, 1), told
        assert "No space left on device" in told[0]
        after = seen(warehouse)
        # Each table is of the old day, or of the new one where the run came so far.
        assert unlike(after, before, new_day) == {}
        assert after["report.html"] == before["report.html"]
        tried("runs that met a full disk", 1)
        ballast.unlink()
        assert run(spark, arguments(sources.all, warehouse, *options)) == (0, [])
        different = unlike(seen(warehouse), new_day)
        # Parquet tables keep no note of their inputs, of which a report of Delta tables tells the digest.
        assert set(different) <= ({"report.html", "report.json", "runs"} if table_format == "parquet" else set())


def test_while_spark_shuffles(spark, sources: Sources, new_day: Seen, tmp_path: Path, tried: Callable[[str, int], None]):
    warehouse = tmp_path / "tables"
    assert run(spark, arguments(sources.few, warehouse)) == (0, [])
    before = seen(warehouse)
    with small_disk(tmp_path / "disk", "64k") as disk:
        with started(*arguments(sources.all, warehouse), spark_options=("--conf", f"spark.local.dir={disk}")) as job:
            status = job.wait()
        told = complaints(job.told)
        assert (status, len(told)) == (3, 1), job.told
        assert "No space left on device" in told[0]
        after = seen(warehouse)
        assert unlike(after, before, new_day) == {}
        assert after["report.html"] == before["report.html"]
        # The shuffle comes after the ingest, which has none.
        assert unlike(after, before).keys() == {"objects", "records", "rejects", "coverage"}
        tried("runs that met a full disk", 1)
    assert run(spark, arguments(sources.all, warehouse)) == (0, [])
    assert unlike(seen(warehouse), new_day) == {}
