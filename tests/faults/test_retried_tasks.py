"""Tasks that are done twice because a worker died after their work, or because Spark took them for slow: no row is there twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed import Seen, Sources, arguments, run, seen, unlike
from processes import started
from running import ROOT, standalone_cluster

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="is about how Spark repeats tasks")]

DISTURBING = '''
"""The whole day, where of every stage in Python (of every third one) the first task to end dies after its work (sleeps).

A file in MARKS tells of each.
"""

import os
import signal
import sys
import time
from itertools import count

from pyspark.sql import SparkSession
from pyspark.sql.pandas.group_ops import PandasGroupedOpsMixin
from pyspark.sql.pandas.map_ops import PandasMapOpsMixin

from flowlog_udfs import scan, selection
from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS

selection.SMALLEST_TASK_BYTES = scan.SMALLEST_ROWS = 1
FAULT, MARKS = FAULT_AND_MARKS
numbers = count()


def disturbed(kernel, collects):
    number = next(numbers)
    mark = os.path.join(MARKS, str(number))

    def disturb():
        if FAULT == "sleeps" and number % 3:
            return
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        if FAULT == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(8)

    def mapped(batches):
        done = list(kernel(batches))  # its part files are written
        disturb()
        yield from done

    def grouped(key, group):
        done = kernel(key, group)
        disturb()
        return done

    return grouped if collects else mapped


def replace(owner, name, collects):
    whole = getattr(owner, name)
    setattr(owner, name, lambda self, kernel, *given, **options: whole(self, disturbed(kernel, collects), *given, **options))


replace(PandasMapOpsMixin, "mapInArrow", False)
replace(PandasGroupedOpsMixin, "applyInArrow", True)
sys.exit(run_steps("disturbed", STEPS, SparkSession.builder.getOrCreate))
'''
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.minTaskRuntime": "100ms",
    # A stage of one task has no other to be slower than.
    "spark.speculation.task.duration.threshold": "2s",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources.make(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def undisturbed(spark_session, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(spark_session, arguments(sources.all, folder)) == (0, [])
    return seen(folder)


def run_disturbed(fault: str, sources: Sources, folder: Path, *spark_options: str) -> tuple[int, str, int]:
    """The exit status of a run, what it said, and how many of its tasks met the fault."""
    (folder / "marks").mkdir()
    job = folder / "disturbing.py"
    job.write_text(DISTURBING.replace("FAULT_AND_MARKS", repr((fault, str(folder / "marks")))))
    with started(*arguments(sources.all, folder / "tables"), job=job, spark_options=spark_options) as running:
        status = running.wait()
    return status, running.told, len(list((folder / "marks").iterdir()))


def test_tasks_whose_worker_dies_after_the_work(sources: Sources, undisturbed: Seen, tmp_path: Path, tried: Callable[[str, int], None]):
    status, told, died = run_disturbed("dies", sources, tmp_path, "--master", "local[2,4]")
    assert status == 0, told
    assert unlike(seen(tmp_path / "tables"), undisturbed) == {}
    assert died >= 8
    tried("tasks that died after their work and were done again", died)


def test_tasks_of_which_a_copy_is_faster(sources: Sources, undisturbed: Seen, tmp_path: Path, tried: Callable[[str, int], None]):
    speculation = [text for name, value in SPECULATION.items() for text in ("--conf", f"{name}={value}")]
    workers = ("--conf", f"spark.executorEnv.PYTHONPATH={ROOT}", "--executor-memory", "1g")
    with standalone_cluster(tmp_path) as url:
        status, told, slow = run_disturbed("sleeps", sources, tmp_path, "--master", url, *workers, *speculation)
    assert status == 0, told
    assert unlike(seen(tmp_path / "tables"), undisturbed) == {}
    assert slow >= 3
    # The copies wrote part files of their own, which nobody sees.
    records = tmp_path / "tables" / "records"
    assert len(list(records.rglob("*.parquet"))) > 1
    tried("tasks that had a faster copy", slow)
