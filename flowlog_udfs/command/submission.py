"""A job by `spark-submit`, or by Python where no Spark is wanted, with a bar of its steps while it works."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

import flowlog_udfs
from flowlog_udfs.arguments import STEP_NAMES
from flowlog_udfs.command.output import Output
from flowlog_udfs.errors import StorageError, UsageError

_PACKAGE = Path(flowlog_udfs.__file__).parent
_STARTS = re.compile(r"flowlog: (\w+): (\d{4}-\d{2}-\d{2}) …$")
_ENDS = re.compile(r"flowlog: \w+: done in [\d.]+ s$")
_PASSED_OVER = re.compile(r"flowlog: \d{4}-\d{2}-\d{2}: run before")


def add_submission(parser: argparse.ArgumentParser) -> None:
    """Add what is for `spark-submit` and not for the job."""
    parser.add_argument("--properties-file", metavar="FILE", help="Spark's settings (default: this machine, conf/spark-local.conf)")


def job_words(words: Sequence[str], *own: argparse.ArgumentParser) -> list[str]:
    """The words of a command line that are the job's: those that no parser in `own` takes."""
    rest = list(words)
    for parser in own:
        _, rest = parser.parse_known_args(rest)
    return rest


def submit(job: str, words: Sequence[str], steps: int, given: argparse.Namespace, output: Output) -> int:
    """Run a job of so many steps to its end on the engine `given`, and return its status.

    What the job prints goes to standard output, or aside when that is for JSON. Raises `StorageError` when Spark cannot be started,
    `UsageError` for settings of Spark's that no Spark will see.
    """
    command = [*_runner(given.engine, given.properties_file), str(_beside("jobs", f"{job}.py")), *words]
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_HOME"} | {"PYSPARK_PYTHON": sys.executable}
    progress = Progress(
        *(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        console=output.aside,
        transient=True,
        disable=not output.aside.is_terminal,
    )
    pipe = subprocess.PIPE
    with progress, subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as running:  # noqa: S603 - no shell
        bar = progress.add_task(f"starting {given.engine.capitalize()}", total=steps)
        pipes = ((running.stdout, sys.stderr if output.as_json else sys.stdout), (running.stderr, sys.stderr))
        readers = [threading.Thread(target=_relay, args=(pipe, target, progress, bar)) for pipe, target in pipes]
        for reader in readers:
            reader.start()
        try:
            for reader in readers:
                reader.join()
            status = running.wait()
        except KeyboardInterrupt:
            running.terminate()
            raise
    if status < 0 or status > StorageError.exit_status:
        raise StorageError(f"{Path(command[0]).name} ended with status {status}; it was stopped from outside, or is out of memory")
    return status


def _relay(pipe: IO[str] | None, target: IO[str], progress: Progress, bar: TaskID) -> None:
    """Pass lines on above the bar, and move the bar by those that tell of steps."""
    for line in pipe or ():
        text = line.rstrip("\n")
        said = _said(text)
        if started := _STARTS.match(said):
            progress.update(bar, description=f"{started[2]} {started[1].replace('_', ' ')}")
            if not progress.disable:
                continue
        elif _ENDS.match(said):
            progress.advance(bar)
        elif _PASSED_OVER.match(said):
            progress.advance(bar, len(STEP_NAMES))
        if progress.disable or not target.isatty():
            print(text, file=target, flush=True)
        else:
            progress.console.print(text, markup=False, highlight=False)


def _said(text: str) -> str:
    """A line of a job's log as a person would read it, be it JSON."""
    try:
        return f"flowlog: {json.loads(text)['message']}" if text.startswith("{") else text
    except (ValueError, KeyError):
        return text


def _runner(engine: str, properties: str | None) -> list[str]:
    if engine != "spark":
        if properties:
            raise UsageError(f"--properties-file {properties} is for Spark; --engine {engine} takes its settings from the environment")
        return [sys.executable]
    settings = ["--properties-file", properties or str(_beside("conf", "spark-local.conf")), "--conf", "spark.ui.showConsoleProgress=false"]
    return [_spark_submit(), *settings]


def _spark_submit() -> str:
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise StorageError("Spark needs Java 17 or newer, and there is none; install a JDK and put java on PATH or set JAVA_HOME")
    beside = Path(sys.executable).with_name("spark-submit")
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if not found:
        raise StorageError("there is no spark-submit; install pyspark into the Python that runs flowlog")
    return found


def _beside(folder: str, name: str) -> Path:
    """A file of the project: in the installed package, or beside it in a checkout."""
    installed = _PACKAGE / folder / name
    return installed if installed.exists() else _PACKAGE.parent / folder / name
