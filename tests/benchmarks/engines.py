"""The engines that are compared, and the command by which each does a task."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.benchmarks.agreement import Tables

ROOT = Path(__file__).parents[2]
_UNTIL = {"a": "ingest_records", "c": "attribute_initiators", "d": "total_subnet_bytes"}


@dataclass(frozen=True)
class Engine:
    """One engine. `packages` are those whose versions matter; `same_as` names tasks that are one command with another.

    `once`: too slow for more than one round, and for any but the smallest day. `floor`: does no task, only what none can leave out.
    """

    name: str
    packages: tuple[str, ...] = ()
    reads_parquet: bool = True
    once: bool = False
    floor: bool = False
    same_as: dict[str, str] = field(default_factory=dict)

    def command(self, task: str, source: Path, output: Path, day: date, python: str) -> list[str]:
        """What runs a task; `python` is that of the peers' environment."""
        if self.name == "flowlog":
            options = ["--source", str(source), "--warehouse", str(output), "--day", str(day), "--until", _UNTIL[task]]
            return ["spark-submit", "--properties-file", "conf/spark-local.conf", "jobs/run_day.py", *options]
        module = {"spark": "plain_spark", "isal": "inflate"}.get(self.name, self.name.replace("-", "_"))
        given = ["a" if self.floor else task, str(source), str(output)]
        if self.name == "spark":
            settings = ["--driver-memory", "2g", "--conf", "spark.sql.session.timeZone=UTC", "--conf", "spark.ui.enabled=false"]
            return ["spark-submit", *settings, f"tests/benchmarks/peers/{module}.py", *given]
        return [python, "-m", f"tests.benchmarks.peers.{module}", *given]

    def tasks(self, asked: Sequence[str]) -> tuple[str, ...]:
        """What it runs of the tasks that are asked for."""
        return ("floor",) if self.floor else tuple(asked)

    def tables(self, task: str, output: Path) -> Tables:
        """The tables that a task left."""
        tasks = "abc" if task == "d" else task
        return Tables.of_flowlog(output, tasks) if self.name == "flowlog" else Tables.of_peer(output, tasks)


ENGINES = (
    # Totals of subnets rest on who owns each end, so the way to them is the whole day.
    Engine("flowlog", ("flowlog", "pyspark"), same_as={"b": "d"}),
    Engine("duckdb", ("duckdb",)),
    Engine("polars", ("polars",)),
    Engine("chdb", ("chdb", "chdb-core")),
    Engine("pyarrow", ("pyarrow",)),
    Engine("spark", ("pyspark",)),
    # Its Parquet reader does not know the encoding that all of today's writers use (RLE_DICTIONARY).
    Engine("flowlogs-reader", ("flowlogs-reader",), reads_parquet=False, once=True),
    Engine("isal", ("isal",), reads_parquet=False, floor=True),
)
"""In the order of the tables; each is compared with the first."""


def peers_python() -> str:
    """The Python of the peers' environment, which is made where it is missing; raises `RuntimeError` when it cannot be had."""
    built = subprocess.run([ROOT / ".ci" / "peers"], capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f".ci/peers: status {built.returncode}\n{built.stderr[-2000:]}")
    return built.stdout.strip()


def versions(engines: tuple[Engine, ...], python: str) -> dict[str, str]:
    """The version of each engine's packages, from the environment that runs it, and Python's and Java's."""
    ask = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    found = {}
    for engine in engines:
        which = "python" if engine.name in ("flowlog", "spark") else python
        told = subprocess.run([which, "-c", ask, *engine.packages], capture_output=True, text=True, check=True).stdout.split()
        found |= dict(zip(engine.packages, told, strict=True))
    found["Python"] = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    found["Java"] = java.split('"')[1]
    return found
