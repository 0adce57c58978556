"""Running the main job in a test: in this process, or under spark-submit as a user does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def submission(
    *arguments: object,
    job: object = "jobs/run_day.py",
    spark_options: tuple[object, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """The command that submits a job, and an environment as the activated .venv gives it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    command = ["spark-submit", "--properties-file", ROOT / "conf" / "spark-local.conf", *spark_options, ROOT / str(job), *arguments]
    return [*map(str, command)], variables | dict(environment or {})


def submit(*arguments: object, folder: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """A job under spark-submit, to its end; `options` are those of `submission`."""
    command, variables = submission(*arguments, **options)
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[str]:
    """The URL of a master of Spark's own with two workers of one core, each a process and an address as on machines of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"spark://127.0.0.1:{port}"
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1"}
    deploy = [binaries / "spark-class", "org.apache.spark.deploy"]
    master = [*deploy[:1], f"{deploy[1]}.master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", 0]
    worker = [*deploy[:1], f"{deploy[1]}.worker.Worker", url, "--cores", 1, "--memory", "1g", "--webui-port", 0]
    commands = [master, *([*worker, "--host", f"127.0.0.{number}", "--work-dir", folder / f"worker-{number}"] for number in (1, 2))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen([*map(str, command)], env=environment, **quiet) for command in commands]
    try:
        yield url
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)
