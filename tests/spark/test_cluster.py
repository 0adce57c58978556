"""Beyond one small day on one machine: the project's zip on a cluster's executors, and a day of 20,000 objects."""

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pyspark
import pytest
from benchmarks.measure import run_and_measure
from logtree import DAY
from running import ROOT, NastyRun, standalone_cluster, submit
from stored import TABLES, rows

from flowlog_udfs.config import Config
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.selection import Selection, even_object_tasks, prepare
from flowlog_udfs.storage import FolderStorage

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="is about a cluster of Spark's")]

WHERE = """
import flowlog_udfs
import pyarrow as pa
from pyspark.sql import SparkSession

def tell(batches):
    import flowlog_udfs as on_worker
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"path": [on_worker.__file__]})

spark = SparkSession.builder.getOrCreate()
workers = spark.range(0, 2, 1, 2).mapInArrow(tell, "path string").distinct().collect()
print(flowlog_udfs.__file__, *(row.path for row in workers), sep="\\n")
spark.stop()
"""


@pytest.fixture(scope="module")
def zipped():
    """The project's zip, and no trace of executors in Spark's folder afterwards."""
    subprocess.run([sys.executable, ".ci/make_zip.py"], cwd=ROOT, check=True, capture_output=True)
    yield ROOT / "dist" / "flowlog_udfs.zip"
    shutil.rmtree(Path(pyspark.__file__).parent / "work", ignore_errors=True)


@pytest.fixture(scope="module")
def alone(nasty: NastyRun, zipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole nasty day in tables made on this machine alone."""
    folder = tmp_path_factory.mktemp("alone")
    done = submit("--source", nasty.source, "--warehouse", folder, "--day", DAY, spark_options=("--py-files", zipped), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[str]:
    """The URL of a master of Spark's own."""
    with standalone_cluster(tmp_path) as url:
        yield url


@pytest.mark.parametrize("master", ["local-cluster[1,1,1024]", "local-cluster[2,1,1024]", "standalone"])
def test_a_cluster_with_the_zip_gives_the_same_tables(
    master: str, nasty: NastyRun, zipped: Path, alone: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    url = request.getfixturevalue("standalone") if master == "standalone" else master
    cluster = ("--master", url, "--executor-memory", "1g", "--py-files", zipped)
    (tmp_path / "where.py").write_text(WHERE)
    # Both the driver and the executors import the zip, not the sources that this environment has too.
    told = submit(job=tmp_path / "where.py", spark_options=cluster, folder=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(told.stdout.split()) >= 2
    assert all("flowlog_udfs.zip/flowlog_udfs/__init__.py" in line for line in told.stdout.split())
    tables = tmp_path / "tables"
    done = submit("--source", nasty.source, "--warehouse", tables, "--day", DAY, spark_options=cluster, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in TABLES:
        assert rows(tables, name) == rows(nasty.warehouse, name), name
    for name in ("connections", "nat_mappings", "subnet_bytes", "reconciliation", "findings", "assessments"):
        assert rows(tables, name) == rows(alone, name), name
    assert rows(tables, "connections")


@pytest.fixture(scope="module")
def many_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Days of some 5,000 and 20,000 small text objects with the same connections."""
    days = {}
    for number in (5_000, 20_000):
        days[number] = tmp_path_factory.mktemp(f"of-{number}")
        request = SampleRequest(str(days[number]), DAY, objects=number, profile="clean", file_format="text", streams=False)
        assert make_sample(request).objects >= number
    return days


def test_planning_reads_one_header_for_each_flow_log(many_objects: dict[int, Path], monkeypatch: pytest.MonkeyPatch):
    """What the driver asks of the storage depends on flow logs and days only; its memory on nothing but its list of objects."""
    asked: list[tuple[str, str]] = []

    def count(name: str) -> None:
        whole = getattr(FolderStorage, name)

        def counted(self: FolderStorage, where: str, *arguments: object) -> object:
            asked.append((name, where))
            return whole(self, where, *arguments)

        monkeypatch.setattr(FolderStorage, name, counted)

    for name in ("head", "folders", "objects"):
        count(name)
    found = {}
    for number, source in many_objects.items():
        asked.clear()
        tracemalloc.start()
        _, listing, plan = prepare(Selection(str(source), DAY), Config())
        tasks = even_object_tasks(listing.objects, Config().ingest.task_bytes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        flow_logs = {listed.key.flow_log_id for listed in listing.objects}
        assert len([where for kind, where in asked if kind == "head"]) == len(flow_logs) == len(plan.formats)
        assert sum(map(len, tasks)) == len(listing.objects) >= number
        found[number] = (len(listing.objects), peak, sorted(kind for kind, _ in asked))
    (few, few_bytes, few_asked), (many, many_bytes, many_asked) = found.values()
    assert many > 2.5 * few
    assert many_asked == few_asked
    assert many_bytes / few_bytes < 1.1 * many / few


def test_a_day_of_20_000_objects_runs_in_the_memory_of_5_000(many_objects: dict[int, Path], tmp_path):
    costs = {}
    for number, source in many_objects.items():
        options = ["--source", source, "--warehouse", tmp_path / str(number), "--day", DAY, "--until", "ingest_records"]
        command = ["spark-submit", "--properties-file", "conf/spark-local.conf", "--master", "local[2]", "jobs/run_day.py", *options]
        costs[number] = run_and_measure([*map(str, command)], ROOT)
        truth = pq.read_table(source / "truth" / f"day={DAY}" / "objects.parquet")
        objects = rows(tmp_path / str(number), "objects")
        assert sum(row["records"] for row in objects) == sum(truth.column("records").to_pylist())
        assert len(list((tmp_path / str(number) / "records").rglob("*.parquet"))) < number / 1_000
    assert costs[20_000].worker_bytes < 1 << 29
    assert costs[20_000].worker_bytes - costs[5_000].worker_bytes < 96 << 20
    assert costs[20_000].driver_bytes - costs[5_000].driver_bytes < 256 << 20
