"""Throughput and memory of the main job: `python -m tests.benchmarks`.

Days of sample logs in the 21 fields of AWS's announcement are made, and run whole under spark-submit. Printed for each are the CPU seconds
of the whole process tree (JVM and Python workers) per million records, start-up left out; wall time; and the peak memory of a worker and of
the JVM; and how many times the CPU of the smallest day the largest takes. Start-up is what a tiny day costs; all are run in turn, and the
medians compared. Nothing is kept unless `--logs` names a folder. With `--engine sail` all is one process, the driver's, in the environment
of `.ci/sail`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from flowlog_udfs.engines import ENGINES
from tests.benchmarks.days import DAY, TINY_RECORDS, sample_day
from tests.benchmarks.engines import ROOT, python_of, runner
from tests.benchmarks.figures import median
from tests.benchmarks.measure import Cost, run_and_measure


def main() -> int:
    """Make the days, run them in turn, print what a million records cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--records",
        type=int,
        nargs="+",
        default=[1_000_000, 10_000_000],
        help="about how many records the days have (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each day is run (default: %(default)s)")
    parser.add_argument("--logs", type=Path, help="folder that keeps the sample logs for the next time")
    parser.add_argument("--table-format", choices=("delta", "parquet"), default="delta")
    parser.add_argument("--until", default="total_subnet_bytes", metavar="STEP", help="the last step that is run (default: %(default)s)")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="what computes (default: %(default)s)")
    given = parser.parse_args()
    started = runner(given.engine, python_of(given.engine))
    with tempfile.TemporaryDirectory(prefix="flowlog-bench-") as scratch:
        logs = given.logs or Path(scratch, "logs")
        tiny, *days = (sample_day(logs, records) for records in (TINY_RECORDS, *sorted(given.records)))
        runs: dict[Path, list[Cost]] = {day.source: [] for day in (tiny, *days)}
        for number in range(given.rounds):
            for source in runs:
                cost = _run_day(started, source, Path(scratch, "warehouse"), given)
                runs[source].append(cost)
                print(f"round {number + 1}  {source.name:>10} records  {cost}", flush=True)
    startup = runs[tiny.source]
    print(f"start-up           {median(startup, 'cpu_seconds'):.1f} CPU-seconds, {median(startup, 'wall_seconds'):.1f} s")
    beyond = [_report(day.records - tiny.records, startup, runs[day.source]) for day in days]
    print(f"{days[-1].records / days[0].records:.2f} times the records: {beyond[-1] / beyond[0]:.2f} times the CPU-seconds")
    return 0


def _run_day(started: list[str], source: Path, warehouse: Path, given: argparse.Namespace) -> Cost:
    shutil.rmtree(warehouse, ignore_errors=True)
    options = ["--source", source, "--warehouse", warehouse, "--day", DAY, "--table-format", given.table_format, "--until", given.until]
    return run_and_measure([*started, "jobs/run_day.py", *map(str, options), "--engine", given.engine], ROOT)


def _report(records: int, tiny: list[Cost], whole: list[Cost]) -> float:
    """Print what a day costs beyond the tiny one; returns its CPU seconds."""
    cpu, wall = (median(whole, name) - median(tiny, name) for name in ("cpu_seconds", "wall_seconds"))
    print(f"records            {records:,}")
    print(f"CPU per million    {cpu / records * 1e6:.2f} CPU-seconds, start-up left out")
    print(f"wall               {wall:.1f} s, start-up left out; {records / wall:,.0f} records per second")
    print(f"peak of a worker   {max(cost.worker_bytes for cost in whole) / 2**20:,.0f} MiB")
    print(f"peak of the JVM    {max(cost.jvm_bytes for cost in whole) / 2**20:,.0f} MiB")
    print(f"peak of the driver {max(cost.driver_bytes for cost in whole) / 2**20:,.0f} MiB (its Python)")
    return cpu


if __name__ == "__main__":
    sys.exit(main())
