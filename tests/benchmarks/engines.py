"""The engines that are compared, and the command by which each does a task."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.benchmarks.agreement import Tables

ROOT = Path(__file__).parents[2]
ON_SPARK = ("spark-submit", "--properties-file", "conf/spark-local.conf")
_UNTIL = {"a": "ingest_records", "c": "attribute_initiators", "d": "total_subnet_bytes"}


@dataclass(frozen=True)
class Engine:
    """One engine. `packages` are those whose versions matter; `same_as` names tasks that are one command with another.

    `environment` says whose Python has the packages. `once`: too slow for more than one round, and for any but the smallest day.
    `floor`: does no task, only what none can leave out.
    """

    name: str
    packages: tuple[str, ...] = ()
    environment: str = "peers"
    reads_parquet: bool = True
    once: bool = False
    floor: bool = False
    same_as: dict[str, str] = field(default_factory=dict)

    @property
    def is_flowlog(self) -> bool:
        """Whether it is flowlog itself, on whichever engine."""
        return "flowlog" in self.packages

    def command(self, task: str, source: Path, output: Path, day: date, pythons: Mapping[str, str]) -> list[str]:
        """What runs a task, by the Pythons of the environments."""
        python = pythons[self.environment]
        if self.is_flowlog:
            options = ["--source", str(source), "--warehouse", str(output), "--day", str(day), "--until", _UNTIL[task]]
            return [*runner(self.environment, python), "jobs/run_day.py", *options, "--engine", self.environment]
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
        return Tables.of_flowlog(output, tasks) if self.is_flowlog else Tables.of_peer(output, tasks)


ENGINES = (
    # Totals of subnets rest on who owns each end, so the way to them is the whole day.
    Engine("flowlog", ("flowlog", "pyspark"), "spark", same_as={"b": "d"}),
    Engine("flowlog-sail", ("flowlog", "pysail"), "sail", same_as={"b": "d"}),
    Engine("duckdb", ("duckdb",)),
    Engine("polars", ("polars",)),
    Engine("chdb", ("chdb", "chdb-core")),
    Engine("pyarrow", ("pyarrow",)),
    Engine("spark", ("pyspark",), "spark"),
    # Its Parquet reader does not know the encoding that all of today's writers use (RLE_DICTIONARY).
    Engine("flowlogs-reader", ("flowlogs-reader",), reads_parquet=False, once=True),
    Engine("isal", ("isal",), reads_parquet=False, floor=True),
)
"""In the order of the tables; each is compared with the first."""


def python_of(environment: str) -> str:
    """The Python of an environment; those of peers and of Sail are made where missing. Raises `RuntimeError` if one cannot be had."""
    if environment == "spark":
        return "python"
    built = subprocess.run([ROOT / ".ci" / environment], capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f".ci/{environment}: status {built.returncode}\n{built.stderr[-2000:]}")
    return built.stdout.strip()


def runner(engine: str, python: str) -> list[str]:
    """What runs a job of flowlog's on Spark or on Sail; `python` is that of Sail's environment."""
    return [*ON_SPARK] if engine == "spark" else [python]


def versions(engines: tuple[Engine, ...], environments: Mapping[str, str]) -> dict[str, str]:
    """The version of each engine's packages, from the environment that runs it, and Python's and Java's."""
    ask = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    found = {}
    for engine in engines:
        which = environments[engine.environment]
        told = subprocess.run([which, "-c", ask, *engine.packages], capture_output=True, text=True, check=True).stdout.split()
        found |= dict(zip(engine.packages, told, strict=True))
    found["Python"] = platform.python_version()
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    found["Java"] = java.split('"')[1]
    return found
