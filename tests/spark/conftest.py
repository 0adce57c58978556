"""What the Spark tests share: running the main job in this session, and one day that all may read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
from jobs_loaded import job_main
from logtree import LogTree, nasty_day
from pyspark.sql import SparkSession
from running import NastyRun, RunDay, run_day

from flowlog_udfs import engines


@pytest.fixture
def run(spark: SparkSession) -> RunDay:
    """`run(source, warehouse, *options, day=DAY)` runs the main job and returns its exit status."""
    return lambda *arguments, **options: run_day(spark, *arguments, **options)


@pytest.fixture(scope="session")
def nasty(spark_session: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> NastyRun:
    """The nasty day, run once into Delta tables; for tests that only look."""
    folder = tmp_path_factory.mktemp("nasty")
    keys = nasty_day(LogTree.in_folder(folder / "logs"))
    with redirect_stdout(StringIO()) as printed:
        status = run_day(spark_session, folder / "logs", folder / "warehouse")
    return NastyRun(keys, folder / "logs", folder / "warehouse", status, printed.getvalue())


@pytest.fixture(scope="session")
def export() -> Any:
    """`main` of jobs/export_ocsf.py."""
    return job_main("export_ocsf")


@pytest.fixture
def bucket(s3: Callable[[], str], spark, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh bucket; workers of this session get the credentials that a cluster's nodes would have."""
    # Where there are workers of their own: on Sail tasks run in this process.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if engines.slots(spark) is None else ():
        monkeypatch.setitem(spark.sparkContext.environment, name, "testing")
    return s3()
