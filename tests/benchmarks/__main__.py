"""Throughput and memory of the main job: `python -m tests.benchmarks`.

A day of sample logs in the 21 fields of AWS's announcement is made, and run whole under spark-submit. Printed are the CPU seconds of the
whole process tree (JVM and Python workers) per million records, start-up left out; wall time; and the peak memory of a worker and of the
JVM. Start-up is what a tiny day costs; both are run in turn, and the medians compared. Nothing is kept unless `--logs` names a folder. With
`--engine sail` all is one process, the driver's, in the environment of `.ci/sail`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from flowlog_udfs.engines import ENGINES
from tests.benchmarks.days import DAY, TINY_RECORDS, sample_day
from tests.benchmarks.engines import ROOT, pythons, runner
from tests.benchmarks.measure import Cost, run_and_measure


def main() -> int:
    """Make the days, run them in turn, print what a million records cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=6_000_000, help="about how many records the day has (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each day is run (default: %(default)s)")
    parser.add_argument("--logs", type=Path, help="folder that keeps the sample logs for the next time")
    parser.add_argument("--table-format", choices=("delta", "parquet"), default="delta")
    parser.add_argument("--until", default="total_subnet_bytes", metavar="STEP", help="the last step that is run (default: %(default)s)")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="what computes (default: %(default)s)")
    given = parser.parse_args()
    started = runner(given.engine, pythons()[given.engine])
    with tempfile.TemporaryDirectory(prefix="flowlog-bench-") as scratch:
        logs = given.logs or Path(scratch, "logs")
        tiny, whole = (sample_day(logs, records) for records in (TINY_RECORDS, given.records))
        runs: dict[Path, list[Cost]] = {tiny.source: [], whole.source: []}
        for number in range(given.rounds):
            for source in runs:
                cost = _run_day(started, source, Path(scratch, "warehouse"), given)
                runs[source].append(cost)
                print(f"round {number + 1}  {source.name:>10} records  {cost}", flush=True)
        _report(whole.records - tiny.records, runs[tiny.source], runs[whole.source])
    return 0


def _run_day(started: list[str], source: Path, warehouse: Path, given: argparse.Namespace) -> Cost:
    shutil.rmtree(warehouse, ignore_errors=True)
    options = ["--source", source, "--warehouse", warehouse, "--day", DAY, "--table-format", given.table_format, "--until", given.until]
    return run_and_measure([*started, "jobs/run_day.py", *map(str, options), "--engine", given.engine], ROOT)


def _report(records: int, tiny: list[Cost], whole: list[Cost]) -> None:
    def median(costs: list[Cost], figure: str) -> float:
        return statistics.median(getattr(cost, figure) for cost in costs)

    startup = median(tiny, "cpu_seconds")
    cpu = median(whole, "cpu_seconds") - startup
    wall = median(whole, "wall_seconds") - median(tiny, "wall_seconds")
    print(f"records            {records:,}")
    print(f"start-up           {startup:.1f} CPU-seconds, {median(tiny, 'wall_seconds'):.1f} s")
    print(f"CPU per million    {cpu / records * 1e6:.2f} CPU-seconds, start-up left out")
    print(f"wall               {wall:.1f} s, start-up left out; {records / wall:,.0f} records per second")
    print(f"peak of a worker   {max(cost.worker_bytes for cost in whole) / 2**20:,.0f} MiB")
    print(f"peak of the JVM    {max(cost.jvm_bytes for cost in whole) / 2**20:,.0f} MiB")
    print(f"peak of the driver {max(cost.driver_bytes for cost in whole) / 2**20:,.0f} MiB (its Python)")


if __name__ == "__main__":
    sys.exit(main())
