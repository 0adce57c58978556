"""Running the main job in a test: in this process, or under spark-submit as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from logtree import DAY
from pyspark.sql import SparkSession

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS

ROOT = Path(__file__).parents[2]

RunDay = Callable[..., int]


@dataclass(frozen=True)
class NastyRun:
    """The nasty day after one run: keys of its objects by name, where it is, what the job printed."""

    keys: dict[str, str]
    source: Path
    warehouse: Path
    status: int
    printed: str


def run_day(spark: SparkSession, source: object, warehouse: object, *options: str, day: object = DAY) -> int:
    """The main job's first step in this process; returns its exit status."""
    arguments = ["--source", str(source), "--warehouse", str(warehouse), "--day", str(day), "--until", "ingest_records"]
    return run_steps("test", STEPS, lambda: spark, [*arguments, *options])


def submit(
    *arguments: object,
    job: object = "jobs/run_day.py",
    spark_options: tuple[object, ...] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """A job under spark-submit, in an environment as the activated .venv gives it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    command = ["spark-submit", "--properties-file", ROOT / "conf" / "spark-local.conf", *spark_options, ROOT / str(job), *arguments]
    return subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=variables | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
